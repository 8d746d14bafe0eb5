"""Starts a built `comet serve`, watches it, and stops it."""

import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

import httpx

SOURCE_DIR = pathlib.Path(__file__).resolve().parents[2]


def binary_path() -> str:
    return os.environ.get("COMET_BINARY", str(SOURCE_DIR / "build/release/bin/comet"))


def model_path() -> str:
    return os.environ.get("COMET_MODEL", str(SOURCE_DIR / "models/SmolLM2-135M-Instruct-comet"))


def test_data_path(name: str) -> pathlib.Path:
    root = os.environ.get("COMET_TEST_DATA", str(SOURCE_DIR / "../shared/data"))
    return pathlib.Path(root) / name


def parse_metrics(text: str) -> dict[str, float]:
    """Sample name with labels, as exposed, to value."""
    samples = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            samples[name] = float(value)
    return samples


class Daemon:
    """One running daemon on free ports. A context manager: leaving it stops the daemon by SIGTERM and
    expects exit code 0."""

    def __init__(self, *flags: str):
        self.log_path = pathlib.Path(tempfile.mkstemp(prefix="comet-", suffix=".log")[1])
        command = [binary_path(), "serve", "--model", model_path(), "--served-model-name", "smollm2",
                   "--port", "0", "--grpc-port", "0", "--context-length", "2048",
                   "--kv-cache-bytes", str(256 << 20)]
        # A flag given twice is wrong usage, so a test's own replaces ours.
        for flag in flags[::2]:
            if flag in command:
                at = command.index(flag)
                del command[at:at + 2]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command + list(flags), stderr=log, stdout=log)
        self.http_port = self.grpc_port = 0

    def wait_serving(self, timeout_seconds: float = 120) -> "Daemon":
        end = time.monotonic() + timeout_seconds
        while time.monotonic() < end:
            for line in self.log_lines():
                if line.get("event") == "serving":
                    self.http_port, self.grpc_port = line["http_port"], line["grpc_port"]
                    return self
            if self.process.poll() is not None:
                raise RuntimeError(f"comet exited with {self.process.returncode}:\n{self.log_text()}")
            time.sleep(0.05)
        raise RuntimeError(f"comet is not serving:\n{self.log_text()}")

    def wait_ready(self, timeout_seconds: float = 30) -> "Daemon":
        self.wait_serving()
        end = time.monotonic() + timeout_seconds
        while httpx.get(self.url + "/ready").status_code != 200:
            if time.monotonic() > end:
                raise RuntimeError("comet is not ready")
            time.sleep(0.05)
        return self

    def __enter__(self) -> "Daemon":
        return self.wait_ready()

    def __exit__(self, *exception) -> None:
        code = self.stop()
        if exception[0] is None:
            assert code == 0, f"exit code {code}:\n{self.log_text()}"

    def stop(self, timeout_seconds: float = 60) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def log_text(self) -> str:
        return self.log_path.read_text(errors="replace")

    def log_lines(self) -> list[dict]:
        lines = []
        for line in self.log_text().splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                continue  # The last line may be half written.
        return lines

    def log_line_of(self, request_id: str, timeout_seconds: float = 10) -> dict:
        """The one line about a request, which comes after its answer's last byte."""
        end = time.monotonic() + timeout_seconds
        while True:
            found = [line for line in self.log_lines() if line.get("request_id") == request_id]
            if found:
                assert len(found) == 1, found
                return found[0]
            assert time.monotonic() < end, f"no log line of {request_id}"
            time.sleep(0.02)

    def metrics(self) -> dict[str, float]:
        return parse_metrics(httpx.get(self.url + "/metrics").text)

    def wait_metric(self, name: str, value: float, timeout_seconds: float = 20) -> float:
        """Seconds until the sample had the value."""
        start = time.monotonic()
        while (got := self.metrics()[name]) != value:
            assert time.monotonic() - start < timeout_seconds, f"{name} is {got}, expected {value}"
            time.sleep(0.02)
        return time.monotonic() - start

    def wait_idle(self, timeout_seconds: float = 20) -> None:
        """Nothing runs or waits, and every page of the KV cache is free."""
        self.wait_metric("comet_num_requests_running", 0, timeout_seconds)
        self.wait_metric("comet_num_requests_waiting", 0, timeout_seconds)
        self.wait_metric("comet_kv_cache_usage_ratio", 0, timeout_seconds)

    def rss_bytes(self) -> int:
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024
