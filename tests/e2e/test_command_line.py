"""The commands beside serve: exit codes, what they print, models that are broken."""

import json
import pathlib
import subprocess

import pytest
from daemon import SOURCE_DIR, binary_path, model_path


@pytest.mark.parametrize("arguments, code, word", [
    (["--version"], 0, "comet "),
    (["--help"], 0, "serve"),
    (["serve", "--help"], 0, "Example"),
    (["quantize", "--help"], 0, "Example"),
    (["generate", "--help"], 0, "Example"),
    (["inspect", "--help"], 0, "Example"),
    (["eval", "perplexity", "--help"], 0, "Example"),
    ([], 2, ""),
    (["dance"], 2, ""),
    (["serve"], 2, "--model"),
    (["serve", "--model", "x", "--port", "70000"], 2, "http.port"),
    (["serve", "--model", "x", "--dance", "1"], 2, "--dance"),
    (["serve", "--model", "/nowhere", "--port", "0"], 1, "/nowhere"),
    (["serve", "--config", "/nowhere.json"], 2, "/nowhere.json"),
    (["inspect", "/nowhere"], 1, "/nowhere"),
    (["quantize", "x.gguf", "--output", "y", "--json"], 2, "--dry-run"),
    (["bench", "ops", "--op", "gather", "--shapes", "x.json"], 2, "x.json"),
    (["eval", "perplexity", "--model", "x", "--text", "y", "--windows", "-1"], 2, "--windows"),
    (["eval", "choice", "--model", "x", "--limit", "-1", "y"], 2, "--limit"),
])
def test_command_line_exit_codes(arguments, code, word):
    done = subprocess.run([binary_path(), *arguments], capture_output=True, text=True, timeout=60)

    assert done.returncode == code, done.stderr
    assert word in done.stdout + done.stderr


def test_generate_and_eval_print_what_they_found(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The sea was calm and the boat went slowly to the harbour. " * 20)

    generated = subprocess.run(
        [binary_path(), "generate", "--model", model_path(), "--max-tokens", "8",
         "--context-length", "256", "The capital of France is"],
        capture_output=True, text=True, timeout=120)
    evaluated = subprocess.run(
        [binary_path(), "eval", "perplexity", "--model", model_path(), "--text", str(text),
         "--context", "64", "--windows", "2", "--json"], capture_output=True, text=True, timeout=120)

    assert generated.returncode == 0, generated.stderr
    assert "Paris" in generated.stdout
    assert evaluated.returncode == 0, evaluated.stderr
    (row,) = json.loads(evaluated.stdout)
    assert row["windows"] == 2 and row["predictions"] == 2 * 63
    assert 1 < row["perplexity"] < 1000


# The beginning of a sentence, how a story goes on and how none does.
SENTENCES = [("Once upon a", "time", "sea boat"), ("There was a little", "girl", "was was"),
             ("The boy went to the", "park", "of said"), ("Lily was very", "happy", "it to the"),
             ("They played all", "day", "him her"), ("She said thank", "you", "and and"),
             ("Her mom gave her a big", "hug", "went she"), ("The sun was", "shining", "said with")]


@pytest.fixture
def choice_file(tmp_path):
    file = tmp_path / "sentences.jsonl"
    file.write_text("".join(json.dumps({"query": query, "choices": [right, wrong], "gold": 0}) + "\n"
                            for query, right, wrong in SENTENCES))
    return file


def test_eval_choice_compares_with_its_reference(require_data, choice_file):
    stories = require_data("models/stories260K.gguf")
    untrained = SOURCE_DIR / "tests/engine/sources/models/mistral_window"
    command = [binary_path(), "eval", "choice", "--model", str(untrained), "--reference", str(stories),
               "--threads", "1", str(choice_file)]

    table = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    done = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True, timeout=60)

    # Of the reference's row and the model's, the second alone is compared.
    headings = [line.split() for line in table.splitlines() if line.split()[:1] == ["file"]]
    assert headings == [["file", "items", "right", "+/-"],
                        ["file", "items", "right", "+/-", "over", "ref", "+/-"]]
    (reference,), (compared,) = [row["files"] for row in json.loads(done.stdout)]
    assert reference["name"] == "sentences" and reference["items"] == len(SENTENCES)
    assert reference["accuracy"] == 1 and "over_reference" not in reference
    # So an item's difference is -1 where the model is wrong: as uncertain as its own accuracy.
    assert compared["over_reference"] == pytest.approx(compared["accuracy"] - 1)
    assert compared["over_reference_standard_error"] == pytest.approx(compared["standard_error"])
    assert compared["standard_error"] > 0


@pytest.mark.parametrize("line, word", [
    ("{", "parse error"), ("[]", "JSON object"), ('{"gold": 0}', "choices"),
    ('{"query": "a", "choices": ["b", "c"], "gold": 2}', "gold")])
def test_eval_choice_tells_a_bad_line(require_data, choice_file, line, word):
    with choice_file.open("a") as file:
        file.write(line + "\n")

    done = subprocess.run([binary_path(), "eval", "choice", "--model",
                           str(require_data("models/stories260K.gguf")), str(choice_file)],
                          capture_output=True, text=True, timeout=60)

    assert done.returncode == 2
    assert f"sentences.jsonl:{len(SENTENCES) + 1}: " in done.stderr and word in done.stderr


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 16, b"\0" * 4096])
def test_a_broken_model_file_is_told(tmp_path, content):
    model = tmp_path / "broken.gguf"
    model.write_bytes(content)

    for arguments in (["serve", "--port", "0", "--grpc-port", "-1", "--model", str(model)],
                      ["quantize", str(model), "--output", str(tmp_path / "out")],
                      ["inspect", str(model)]):
        done = subprocess.run([binary_path(), *arguments], capture_output=True, text=True, timeout=60)

        assert done.returncode == 1, done.stderr
        assert "broken.gguf" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_truncated_checkpoint_is_told(tmp_path):
    for file in pathlib.Path(model_path()).iterdir():
        size = file.stat().st_size
        (tmp_path / file.name).write_bytes(
            file.read_bytes()[:size // 2 if file.suffix == ".safetensors" else size])

    done = subprocess.run([binary_path(), "serve", "--port", "0", "--grpc-port", "-1", "--model",
                           str(tmp_path)], capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert "model.safetensors" in done.stderr


def test_too_little_memory_says_how_much_is_needed():
    done = subprocess.run([binary_path(), "serve", "--model", model_path(), "--port", "0",
                           "--grpc-port", "-1", "--kv-cache-bytes", str(1 << 50)],
                          capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert "MiB" in done.stderr
