"""Checkpoints from their making to their serving: what is half made, damaged or poisoned."""

import json
import pathlib
import shutil
import signal
import struct
import subprocess
import time

import httpx
import pytest
from daemon import SOURCE_DIR, Daemon, binary_path

TEXT = "Once upon a time there was a little girl who lived by the sea. She had a big red boat. " * 20


@pytest.fixture(scope="module")
def stories(require_data):
    return require_data("models/stories260K.gguf")


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "calibration.txt"
    path.write_text(TEXT)
    return path


def quantize_command(source, output, calibration):
    return [binary_path(), "quantize", str(source), "--output", str(output), "--calibration",
            str(calibration), "--threads", "1", "--tuning-steps", "0"]


@pytest.fixture(scope="module")
def checkpoint(stories, calibration, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "stories"
    subprocess.run(quantize_command(stories, folder, calibration), check=True, capture_output=True)
    return folder


def serve_and_exit(model, *flags):
    """A `comet serve` that is expected to refuse its model."""
    return subprocess.run([binary_path(), "serve", "--model", str(model), "--port", "0",
                           "--grpc-port", "-1", *flags],
                          capture_output=True, text=True, timeout=60)


def test_a_killed_quantize_leaves_no_checkpoint(stories, calibration, tmp_path):
    output = tmp_path / "model"
    start = time.monotonic()
    subprocess.run(quantize_command(stories, tmp_path / "whole", calibration), check=True,
                   capture_output=True)
    whole_seconds = time.monotonic() - start

    num_killed = 0
    for i in range(8):
        process = subprocess.Popen(quantize_command(stories, output, calibration),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole_seconds * i / 8)
        process.send_signal(signal.SIGKILL)
        was_killed = process.wait() != 0
        # Faster this time, it had published before the signal came: then what is there is whole.
        is_published = output.exists()
        assert subprocess.run([binary_path(), "inspect", str(output)],
                              capture_output=True).returncode == (0 if is_published else 1)
        if is_published:
            shutil.rmtree(output)
        else:
            assert was_killed
            num_killed += 1
    assert num_killed > 0
    for leftover in tmp_path.glob("model*"):
        assert ".partial-" in leftover.name
        # Not even under the temporary name would a daemon take it.
        assert serve_and_exit(leftover).returncode == 1
    # The leftovers are in nobody's way.
    subprocess.run(quantize_command(stories, output, calibration), check=True, capture_output=True)
    assert subprocess.run([binary_path(), "inspect", str(output)],
                          capture_output=True).returncode == 0


def test_a_dry_run_tells_what_a_70b_takes_from_its_config_alone(tmp_path):
    shapes = SOURCE_DIR / "tests/engine/checkpoint/model_shapes.json"
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(shapes.read_text())["llama-3-70b"]))

    done = subprocess.run([binary_path(), "quantize", "--dry-run", "--json", str(config)], check=True,
                          capture_output=True, text=True)

    plan = json.loads(done.stdout)
    assert plan["disk_bytes"] == pytest.approx(38e9, rel=0.02)
    assert 15e9 < plan["memory_bytes"] < 60e9
    assert plan["memory_suffices"] == (plan["memory_bytes"] <= plan["memory_free_bytes"])
    assert plan["disk_free_bytes"] is None and plan["disk_suffices"] is None  # No output was named.
    assert plan["seconds"] > 3600
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def damaged(checkpoint, folder, change) -> pathlib.Path:
    shutil.copytree(checkpoint, folder)
    report = json.loads((folder / "accuracy.json").read_text())
    change(report)
    (folder / "accuracy.json").write_text(json.dumps(report))
    return folder


def test_serve_refuses_a_checkpoint_that_its_report_calls_broken(checkpoint, tmp_path):
    def lose(report):
        report["held_out"]["perplexity_8"] = None

    model = damaged(checkpoint, tmp_path / "lost", lose)

    refused = serve_and_exit(model)

    assert refused.returncode == 1
    assert "held-out perplexity" in refused.stderr
    assert "--accuracy-check warn" in refused.stderr
    with Daemon("--model", str(model), "--accuracy-check", "warn", "--context-length", "256",
                "--kv-cache-bytes", str(16 << 20)) as daemon:
        assert [line for line in daemon.log_lines() if line["event"] == "accuracy_check_failed"]


def test_the_threshold_of_what_is_broken_is_an_option(checkpoint, tmp_path):
    def worsen(report):
        report["held_out"]["predictions"] = 1000
        report["held_out"]["perplexity_8"] = 2.5 * report["held_out"]["perplexity_float"]

    model = damaged(checkpoint, tmp_path / "worse", worsen)

    assert "--perplexity-ratio-max" in serve_and_exit(model).stderr
    with Daemon("--model", str(model), "--perplexity-ratio-max", "3", "--context-length", "256",
                "--kv-cache-bytes", str(16 << 20)) as daemon:
        checked = [line for line in daemon.log_lines() if line["event"] == "accuracy_checked"]
        assert checked[0]["perplexity_ratio"] == pytest.approx(2.5)


@pytest.mark.parametrize("text", [None, "", "{", "{\"layers\": 3}"])
def test_serve_refuses_a_checkpoint_without_a_readable_report(checkpoint, tmp_path, text):
    model = tmp_path / "model"
    shutil.copytree(checkpoint, model)
    report = model / "accuracy.json"
    report.unlink() if text is None else report.write_text(text)

    refused = serve_and_exit(model)

    assert refused.returncode == 1
    assert "accuracy.json" in refused.stderr


def poison_row(gguf: bytes, tensor: str, row: int) -> bytes:
    """The file with the largest float in one row of a two-dimensional F32 tensor: a loader takes it, and
    sums of it are infinite."""
    at = 8
    num_tensors, num_keys = struct.unpack_from("<QQ", gguf, at)
    at += 16

    def text():
        nonlocal at
        length = struct.unpack_from("<Q", gguf, at)[0]
        at += 8 + length
        return gguf[at - length:at].decode()

    def skip(kind):
        nonlocal at
        sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
        if kind == 8:
            text()
        elif kind == 9:
            item, count = struct.unpack_from("<IQ", gguf, at)
            at += 12
            for _ in range(count):
                skip(item)
        else:
            at += sizes[kind]

    for _ in range(num_keys):
        text()
        at += 4
        skip(struct.unpack_from("<I", gguf, at - 4)[0])
    tensors = {}
    for _ in range(num_tensors):
        name = text()
        num_dims = struct.unpack_from("<I", gguf, at)[0]
        dims = struct.unpack_from(f"<{num_dims}Q", gguf, at + 4)
        kind, offset = struct.unpack_from("<IQ", gguf, at + 4 + 8 * num_dims)
        at += 16 + 8 * num_dims
        tensors[name] = (dims, kind, offset)
    dims, kind, offset = tensors[tensor]
    assert kind == 0
    begin = (at + 31) // 32 * 32 + offset + 4 * dims[0] * row
    return gguf[:begin] + struct.pack("<f", 3e38) * dims[0] + gguf[begin + 4 * dims[0]:]


def test_poisoned_weights_fail_their_requests_and_are_counted(stories, tmp_path):
    model = tmp_path / "poisoned.gguf"
    model.write_bytes(poison_row(stories.read_bytes(), "blk.0.attn_q.weight", 0))
    body = {"model": "smollm2", "prompt": [1, 410], "max_tokens": 4, "temperature": 0}
    with Daemon("--model", str(model), "--context-length", "256", "--kv-cache-bytes",
                str(16 << 20)) as daemon:
        assert daemon.metrics()["comet_nan_logits_total"] == 0
        answers = [httpx.post(daemon.url + "/v1/completions", json=body, timeout=60)
                   for _ in range(3)]
        assert [answer.status_code for answer in answers] == [500] * 3
        assert daemon.metrics()["comet_nan_logits_total"] == 3
        assert httpx.get(daemon.url + "/health").status_code == 200
        daemon.wait_idle()


MODELS = SOURCE_DIR / "tests/engine/sources/models"


def test_a_hugging_face_folder_becomes_a_checkpoint(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("abcdefgh" * 100)
    output = tmp_path / "model"
    subprocess.run(quantize_command(MODELS / "mistral_window", output, text), check=True,
                   capture_output=True)

    done = subprocess.run([binary_path(), "eval", "perplexity", "--model", str(output), "--reference",
                           str(MODELS / "mistral_window"), "--text", str(text), "--context", "32",
                           "--windows", "2", "--json"], check=True, capture_output=True, text=True)
    inspected = subprocess.run([binary_path(), "inspect", str(output), "--json"], check=True,
                               capture_output=True, text=True)

    reference, served = json.loads(done.stdout)
    assert reference["predictions"] == served["predictions"] == 2 * 31
    assert json.loads(inspected.stdout)["sliding_window"] == 7


def test_a_hugging_face_folder_is_served_unquantised():
    with Daemon("--model", str(MODELS / "llama_3"), "--context-length", "64", "--kv-cache-bytes",
                str(16 << 20)) as daemon:
        answer = httpx.post(daemon.url + "/v1/completions", timeout=60,
                            json={"prompt": [5, 6], "max_tokens": 4, "ignore_eos": True})

    assert answer.json()["usage"]["completion_tokens"] == 4


def test_inspect_tells_a_qwen2_checkpoint(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("abcdefgh" * 100)
    output = tmp_path / "model"
    subprocess.run(quantize_command(MODELS / "qwen2_window", output, text), check=True,
                   capture_output=True)

    done = subprocess.run([binary_path(), "inspect", str(output), "--json"], check=True,
                          capture_output=True, text=True)

    described = json.loads(done.stdout)
    assert described["architecture"] == "qwen2" and described["has_qkv_bias"] is True


def test_inspect_says_why_a_source_cannot_be_used(tmp_path):
    folder = tmp_path / "source"
    shutil.copytree(MODELS / "llama_1", folder)
    config = json.loads((folder / "config.json").read_text())
    config["rope_scaling"] = {"type": "dynamic", "factor": 2.0}
    (folder / "config.json").write_text(json.dumps(config))

    done = subprocess.run([binary_path(), "inspect", str(folder), "--json"], capture_output=True,
                          text=True)

    assert done.returncode == 1
    assert "rope_scaling.type: is \"dynamic\"" in done.stderr
    described = json.loads(done.stdout)
    assert described["hidden_size"] == 32 and described["tensor_types"] == {"F16": 21, "F32": 1}
    assert described["unsupported"] == [done.stderr.removeprefix("comet: ").strip()]


def test_inspect_describes_a_gguf_file_with_types_it_cannot_read(tmp_path):
    model = bytearray((MODELS / "llama_q8_0.gguf").read_bytes())
    name = b"blk.1.ffn_down.weight"
    model[model.index(name) + len(name) + 4 + 2 * 8] = 11  # Rank and dimensions, then the type.
    path = tmp_path / "q3.gguf"
    path.write_bytes(model)

    done = subprocess.run([binary_path(), "inspect", str(path), "--json"], capture_output=True,
                          text=True)

    assert done.returncode == 1
    described = json.loads(done.stdout)
    assert described["architecture"] == "llama" and described["hidden_size"] == 32
    assert described["tensor_types"]["Q3_K"] == 1
    assert described["unsupported"] == [done.stderr.removeprefix("comet: ").strip()]
    assert "blk.1.ffn_down.weight: is Q3_K" in done.stderr


@pytest.mark.parametrize("name, status, reason", [
    ("pytorch_model.bin", 1, "is a pickle file"),
    ("model.safetensors", 2, "expected the folder with its config.json"),
])
def test_inspect_says_which_file_is_no_model(tmp_path, name, status, reason):
    (tmp_path / name).write_bytes(b"\0" * 64)

    done = subprocess.run([binary_path(), "inspect", str(tmp_path / name)], capture_output=True,
                          text=True)

    assert done.returncode == status
    assert reason in done.stderr and "GGUF)" not in done.stderr
