"""Encoding speed of comet beside Hugging Face's tokenizers and sentencepiece, one thread.

Usage: tokenizer_speed.py [--seconds 3]     prints a line a vocabulary and text, best of its runs

Megabytes a second of the process's own time, so that others on the machine do not count.

Set COMET_TEST_DATA; needs comet_tokenize_tool of a release build (COMET_TOKENIZE_TOOL).
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import vocabularies
from vocabularies import DATA_DIR, TOKENIZERS_DIR, TOOL, JsonOracle, SentencePieceOracle

TEXT_BYTES = 1_000_000


def texts() -> dict:
    wiki = (DATA_DIR / "text/wikitext-2-v1.valid.tokens.txt").read_bytes()
    multilingual = b"".join(path.read_bytes() for path in sorted((DATA_DIR / "calib").glob("*.utf8")))
    return {"wikitext": wiki[:TEXT_BYTES], "calibration": multilingual[:TEXT_BYTES],
            "one letter": b"a" * TEXT_BYTES}


def oracle_speed(oracle, text: str, num_bytes: int, seconds: float) -> float:
    best = 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.process_time()
        oracle.encode(text)
        best = max(best, num_bytes / 1e6 / (time.process_time() - start))
    return best


def our_speed(path: pathlib.Path, text_path: pathlib.Path, seconds: float) -> float:
    output = subprocess.run([TOOL, path, "time", text_path, str(seconds)], check=True,
                            capture_output=True, text=True).stdout
    return float(output.split()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3)
    seconds = parser.parse_args().seconds
    json_files = {"smollm2": vocabularies.smollm2_json(), "llama2": vocabularies.llama2_json(),
                  "llama3": vocabularies.llama3_json(), "qwen2": vocabularies.qwen2_json()}
    with tempfile.TemporaryDirectory() as folder:
        forms = {}
        for name, file in json_files.items():
            path = pathlib.Path(folder, name + ".json")
            path.write_text(json.dumps(file), encoding="utf-8")
            forms[name + " tokenizer.json"] = (path, JsonOracle(file), "tokenizers")
        model = TOKENIZERS_DIR / "llama2/tokenizer.model"
        forms["llama2 tokenizer.model"] = (model, SentencePieceOracle(model), "sentencepiece")
        print(f"{'vocabulary':24} {'text':12} {'comet MB/s':>10} {'oracle MB/s':>11}  oracle")
        for form, (path, oracle, oracle_name) in forms.items():
            for text_name, raw in texts().items():
                text = raw.decode("utf-8", errors="ignore")
                text_path = pathlib.Path(folder, "text")
                text_path.write_text(text, encoding="utf-8")
                num_bytes = len(text.encode())
                ours = our_speed(path, text_path, seconds)
                theirs = oracle_speed(oracle, text, num_bytes, seconds)
                print(f"{form:24} {text_name:12} {ours:10.2f} {theirs:11.2f}  {oracle_name}",
                      flush=True)


if __name__ == "__main__":
    main()
