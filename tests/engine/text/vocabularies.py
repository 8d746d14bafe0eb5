"""The published vocabularies as the oracles read them, and as files that comet reads.

tokenizers 0.23 is the oracle of tokenizer.json and tiktoken files, sentencepiece of tokenizer.model.
"""

import base64
import importlib.util
import json
import lzma
import os
import pathlib

import sentencepiece
import tokenizers

SOURCE_DIR = pathlib.Path(__file__).resolve().parents[3]
DATA_DIR = pathlib.Path(os.environ.get("COMET_TEST_DATA", SOURCE_DIR / "../shared/data"))
TOKENIZERS_DIR = DATA_DIR / "tokenizers"
TOOL = pathlib.Path(os.environ.get("COMET_TOKENIZE_TOOL",
                                   SOURCE_DIR / "build/release/bin/comet_tokenize_tool"))

QWEN2_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
                 r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def has_data() -> bool:
    return TOKENIZERS_DIR.is_dir()


def smollm2_json() -> dict:
    """Saved again, the file lost a step and gained a truncation."""
    file = json.loads((TOKENIZERS_DIR / "smollm2/tokenizer.json").read_text())
    digits = {"type": "Digits", "individual_digits": True}
    file["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, file["pre_tokenizer"]]}
    file["truncation"] = None
    return file


def llama2_json() -> dict:
    """The file's no-break spaces became plain ones. Special tokens are read as transformers does."""
    file = json.loads((TOKENIZERS_DIR / "llama2/tokenizer.json").read_text())
    model = file["model"]
    model["vocab"] = {piece.replace(" ", "\u00a0"): id for piece, id in model["vocab"].items()}
    for i, merge in enumerate(model["merges"]):
        if merge.count(" ") > 1:
            middle = 1 if merge.startswith("\u2581") else len(merge) // 2
            left, right = merge[:middle], merge[middle + 1:]
            model["merges"][i] = [left.replace(" ", "\u00a0"), right.replace(" ", "\u00a0")]
        else:
            model["merges"][i] = merge.split(" ")
    for token in file["added_tokens"]:
        token["normalized"] = False
    return file


def llama2_metaspace_json(scheme: str) -> dict:
    """LLaMA-2's vocabulary as later conversions write it."""
    file = llama2_json()
    file["normalizer"] = None
    file["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\u2581",
                             "prepend_scheme": scheme, "split": False}
    if scheme == "never":
        file["decoder"]["decoders"].pop()
    return file


def added_token(id: int, content: str, **flags) -> dict:
    token = {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": False}
    return token | flags


def with_added_tokens(file: dict) -> dict:
    """One of each kind of added token."""
    first = 1 + max(max(file["model"]["vocab"].values()),
                    max(token["id"] for token in file["added_tokens"]))
    kinds = [("<left>", {"lstrip": True}), ("<right>", {"rstrip": True}),
             ("<word>", {"single_word": True}), ("w0rd", {"single_word": True}),
             ("<norm>", {"normalized": True}), ("<both>", {"lstrip": True, "rstrip": True}),
             ("<plain>", {}), ("<plain>>", {"special": True})]
    for i, (content, flags) in enumerate(kinds):
        file["added_tokens"].append(added_token(first + i, content, **flags))
    return file


def llama3_json() -> dict:
    return json.loads(lzma.open(TOKENIZERS_DIR / "llama3_1/tokenizer.json.xz").read())


def byte_symbols() -> dict:
    """GPT-2's printable character of each byte."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    shifted = [byte for byte in range(256) if byte not in kept]
    return {byte: chr(byte) for byte in kept} | {b: chr(256 + i) for i, b in enumerate(shifted)}


def qwen2_json() -> dict:
    """Qwen2's tokenizer.json, made from the ranks of its tiktoken file."""
    package = importlib.util.find_spec("dashscope").submodule_search_locations[0]
    ranks = {}
    for line in pathlib.Path(package, "resources/qwen.tiktoken").read_bytes().splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    symbols = byte_symbols()
    text = {token: "".join(symbols[byte] for byte in token) for token in ranks}
    merges = []
    for token, rank in ranks.items():
        cuts = [(ranks[token[:i]], ranks[token[i:]], token[:i], token[i:])
                for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks]
        merges += [(rank, left, right) for _, _, left, right in sorted(cuts)]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    split = {"type": "Split", "pattern": {"Regex": QWEN2_PATTERN}, "behavior": "Isolated",
             "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                  "use_regex": False}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added_token(len(ranks) + i, content, special=True)
                         for i, content in enumerate(special)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False,
                  "byte_fallback": False,
                  "vocab": {text[token]: rank for token, rank in ranks.items()},
                  "merges": [[text[left], text[right]] for _, left, right in merges]},
    }


class JsonOracle:
    def __init__(self, file: dict):
        self.tokenizer = tokenizers.Tokenizer.from_str(json.dumps(file))

    def encode(self, text: str) -> list:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False)


class SentencePieceOracle:
    def __init__(self, path: pathlib.Path):
        self.processor = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def encode(self, text: str) -> list:
        return self.processor.encode(text)

    def decode(self, ids: list) -> str:
        return self.processor.decode(ids)


