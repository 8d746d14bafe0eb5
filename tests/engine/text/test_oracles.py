"""comet's tokenizers beside Hugging Face's `tokenizers` and `sentencepiece`, on random text.

COMET_ORACLE_STRINGS sets the number of strings a vocabulary; 10,000 for a full run.
"""

import json
import os
import pathlib
import random
import subprocess
import unicodedata

import pytest

import vocabularies
from vocabularies import DATA_DIR, TOKENIZERS_DIR, TOOL, JsonOracle, SentencePieceOracle

NUM_STRINGS = int(os.environ.get("COMET_ORACLE_STRINGS", "1000"))
CORPORA = sorted((DATA_DIR / "calib").glob("*.utf8"))

# What tokenizers treat specially: spaces, digits, quotes, marks that compose, Hangul, emoji, controls.
ALPHABETS = [
    "ab  \n\t\r0123'sStTlL.,",
    "\u00a0\u1680\u180e\u2003\u2028\u202f\u3000\u200b\ufeff\u0085 x",
    "e\u0301\u0327\u0300o\u0308a\u030a\u0323\u1e0b\u1e0d\u212b\u2126\u0344\u0958\ufb1d",
    "\u1100\u1161\u11a8\uac00\uac01\u11a7\u1175",
    "\U0001f600\U0001f468\u200d\U0001f469\ufe0f\U0001f1e9\U0001f1ea",
    "\u4e2d\u6587\u65e5\u672c\u8a9e\ud55c\uad6d\u0627\u0644\u0639\u0e20\u0e32\u0e29",
    "\u2581 \u2581a <s></s><unk>",
    "\u0660\u0967\u2160\u00bd\u00b2\u3007",
    "\x00\x01\x1f\x7f\u0080\ufffd\ufffe\U0010ffff",
]
MARKS = ["<s>", "</s>", "<|eot_id|>", "<|im_end|>", "<left>", "<right>", "<word>", "w0rd", "<norm>",
         "<both>", "<plain>", "<plain>>", "[INST]"]


def is_settled(point: int) -> bool:
    """Assigned by Unicode 14, which PCRE2 10.42 has: what is a letter since then, our patterns cannot
    know. Private and control characters count."""
    return not 0xD800 <= point < 0xE000 and unicodedata.category(chr(point)) != "Cn"


def random_strings(seed: int, count: int) -> list:
    rng = random.Random(seed)
    sample = "".join(path.read_text(encoding="utf-8")[:20000] for path in CORPORA)
    strings = []
    while len(strings) < count:
        kind = len(strings) % 4
        length = rng.randrange(1, 40)
        if kind == 0:
            points = [rng.randrange(0x110000) for _ in range(length)]
        elif kind == 1:
            points = [rng.randrange(rng.choice([0x80, 0x800, 0x3000, 0x10000])) for _ in range(length)]
        elif kind == 2:
            alphabet = "".join(rng.sample(ALPHABETS, 2)) + "abc "
            points = [ord(rng.choice(alphabet)) for _ in range(length)]
        else:
            start = rng.randrange(len(sample) - 200)
            points = [ord(c) for c in sample[start:start + rng.randrange(1, 200)]]
        text = "".join(chr(p) for p in points if is_settled(p))
        if text:
            strings.append(text)
    return strings


def with_marks(strings: list, seed: int) -> list:
    """Tokens written out in the strings, with spaces about them or not."""
    rng = random.Random(seed)
    marked = []
    for text in strings:
        pieces = [text[:rng.randrange(1, 20)]]
        for _ in range(rng.randrange(1, 5)):
            pieces += [rng.choice(["", " ", "  ", "\n", "x"]), rng.choice(MARKS),
                       rng.choice(["", " ", "\t ", "y"])]
        marked.append("".join(pieces) + text[-3:])
    return marked


def random_bytes(seed: int, count: int) -> list:
    rng = random.Random(seed)
    return [bytes(rng.randrange(256) for _ in range(rng.randrange(1, 60))) for _ in range(count)]


def run_tool(path: pathlib.Path, texts: list) -> list:
    """Ids and decoded bytes of each text, which is bytes."""
    lines = "".join(text.hex() + "\n" for text in texts)
    result = subprocess.run([TOOL, path, "encode"], input=lines, capture_output=True, text=True,
                            timeout=300)
    assert result.returncode == 0, result.stderr
    output = result.stdout.split("\n")
    return [([int(id) for id in output[2 * i].split()], bytes.fromhex(output[2 * i + 1]))
            for i in range(len(texts))]


def check(path: pathlib.Path, oracle, strings: list):
    """The same ids, and the same text of them."""
    wrong = []
    for text, (ids, decoded) in zip(strings, run_tool(path, [s.encode() for s in strings])):
        expected = oracle.encode(text)
        if ids != expected:
            wrong.append((text, ids, expected))
        elif decoded.decode(errors="replace") != oracle.decode(expected):
            wrong.append((text, decoded.decode(errors="replace"), oracle.decode(expected)))
    assert not wrong, f"{len(wrong)} of {len(strings)}, first: {wrong[0]!r}"


@pytest.fixture(scope="module", autouse=True)
def need_data():
    for path in (TOOL, TOKENIZERS_DIR):
        if path.exists():
            continue
        reason = f"{path} is missing: set COMET_TOKENIZE_TOOL and COMET_TEST_DATA"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


@pytest.fixture(scope="module")
def strings(need_data):
    return random_strings(7, NUM_STRINGS)


def save(folder: pathlib.Path, file: dict) -> pathlib.Path:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(file, ensure_ascii=False), encoding="utf-8")
    return path


JSON_FORMS = {
    "smollm2": vocabularies.smollm2_json,
    "llama2": vocabularies.llama2_json,
    "llama2_first": lambda: vocabularies.llama2_metaspace_json("first"),
    "llama2_always": lambda: vocabularies.llama2_metaspace_json("always"),
    "llama2_never": lambda: vocabularies.llama2_metaspace_json("never"),
    "llama3_1": vocabularies.llama3_json,
    "qwen2": vocabularies.qwen2_json,
}


@pytest.mark.parametrize("name", JSON_FORMS)
def test_tokenizer_json_equals_hugging_face(name, strings, tmp_path):
    file = JSON_FORMS[name]()

    check(save(tmp_path, file), JsonOracle(file), strings)


@pytest.mark.parametrize("name", ["smollm2", "llama2", "llama2_first", "qwen2"])
def test_added_tokens_equal_hugging_face(name, strings, tmp_path):
    file = vocabularies.with_added_tokens(JSON_FORMS[name]())

    check(save(tmp_path, file), JsonOracle(file), with_marks(strings, 3))


def test_llama3_tiktoken_equals_hugging_face(strings):
    oracle = JsonOracle(vocabularies.llama3_json())

    check(TOKENIZERS_DIR / "llama3/tokenizer.model", oracle, with_marks(strings, 5))
    check(TOKENIZERS_DIR / "llama3/tokenizer.model", oracle, strings)


@pytest.mark.parametrize("name", ["llama2/tokenizer.model", "mistral/tokenizer.model.v1",
                                  "mistral/mistral_instruct_tokenizer_240323.model.v3"])
def test_model_files_equal_sentencepiece(name, strings):
    path = TOKENIZERS_DIR / name
    # sentencepiece reads no control token written out in a text; the tool does.
    plain = [text for text in strings if "<" not in text and "[" not in text]

    check(path, SentencePieceOracle(path), plain)


def test_random_bytes_come_back_from_byte_level(need_data):
    texts = random_bytes(11, NUM_STRINGS)

    results = run_tool(TOKENIZERS_DIR / "llama3/tokenizer.model", texts)

    assert [decoded for _, decoded in results] == texts


def test_random_bytes_equal_sentencepiece(need_data):
    path = TOKENIZERS_DIR / "llama2/tokenizer.model"
    texts = [text for text in random_bytes(13, NUM_STRINGS) if b"<" not in text]
    processor = SentencePieceOracle(path).processor
    wrong = [(text, ids) for text, (ids, _) in zip(texts, run_tool(path, texts))
             if ids != processor.encode(text)]
    assert not wrong, f"{len(wrong)} of {len(texts)}, first: {wrong[0]!r}"


def test_qwen2_equals_llama_cpp_vectors(tmp_path):
    path = save(tmp_path, vocabularies.qwen2_json())
    stem = DATA_DIR / "tokenizer-vectors/llama.cpp/ggml-vocab-qwen2.gguf"
    inputs = stem.with_name(stem.name + ".inp").read_bytes().split(b"\n__ggml_vocab_test__\n")[:-1]
    outputs = stem.with_name(stem.name + ".out").read_text().split("\n")
    expected = [[int(id) for id in line.split()] for line in outputs[:len(inputs)]]

    assert len(inputs) == 46
    assert [ids for ids, _ in run_tool(path, inputs)] == expected


def test_llama3_json_gives_the_vectors(tmp_path):
    path = save(tmp_path, vocabularies.llama3_json())
    lines = (DATA_DIR / "tokenizer-vectors/vectors.jsonl").read_text(encoding="utf-8").split("\n")
    vectors = [json.loads(line) for line in lines if line]

    results = run_tool(path, [vector["text"].encode() for vector in vectors])

    assert len(vectors) == 461
    assert [ids for ids, _ in results] == [vector["llama3"] for vector in vectors]


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
