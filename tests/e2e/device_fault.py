#!/usr/bin/env python3
"""A daemon on a GPU whose device fails in the middle of 16 streams: every stream must end with an error
event, /ready must turn 503, and the daemon must say what failed and exit with 1, within 10 seconds. Needs
a GPU and nothing but the standard library.
  device_fault.py LIBRARY COMET serve --model ... --device cuda --port PORT   (LIBRARY: comet_device_fault)"""

import http.client
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

NUM_STREAMS = 16
END_SECONDS_MAX = 10


def ask(port: int, method: str, path: str, body: dict | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, json.dumps(body) if body else None,
                       {"Content-Type": "application/json"})
    return connection.getresponse()


def read_stream(port: int, has_begun: threading.Semaphore, lines: list):
    answer = ask(port, "POST", "/v1/completions", {"prompt": [5, 6, 7], "max_tokens": 1900, "stream": True,
                                                   "ignore_eos": True})
    while line := answer.readline():
        lines.append(line.decode().strip())
        if len(lines) == 1:
            has_begun.release()


def main() -> int:
    library, command = sys.argv[1], sys.argv[2:]
    port = int(command[command.index("--port") + 1])
    folder = pathlib.Path(tempfile.mkdtemp(prefix="comet-fault-"))
    environment = os.environ | {"LD_PRELOAD": library, "COMET_FAULT_FILE": str(folder / "now")}
    with open(folder / "log", "wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        return watch_fault(daemon, port, folder)
    finally:
        daemon.kill()


def watch_fault(daemon: subprocess.Popen, port: int, folder: pathlib.Path) -> int:
    while "serving" not in (folder / "log").read_text():
        assert daemon.poll() is None, (folder / "log").read_text()
        time.sleep(0.05)
    has_begun = threading.Semaphore(0)
    streams = [[] for _ in range(NUM_STREAMS)]
    threads = [threading.Thread(target=read_stream, args=(port, has_begun, lines)) for lines in streams]
    for thread in threads:
        thread.start()
    for _ in streams:
        assert has_begun.acquire(timeout=60), (folder / "log").read_text()
    start = time.monotonic()
    (folder / "now").touch()
    readiness = []
    while daemon.poll() is None and time.monotonic() - start < END_SECONDS_MAX:
        try:
            readiness.append(ask(port, "GET", "/ready").status)
        except OSError:
            break  # It has closed.
        time.sleep(0.005)
    code = daemon.wait(END_SECONDS_MAX)
    seconds = time.monotonic() - start
    for thread in threads:
        thread.join(END_SECONDS_MAX)
    faults = []
    if seconds > END_SECONDS_MAX:
        faults.append(f"it ended after {seconds:.1f} s, expected at most {END_SECONDS_MAX}")
    if code != 1:
        faults.append(f"exit code {code}, expected 1")
    if not any(status == 503 for status in readiness):
        faults.append(f"/ready said {sorted(set(readiness))}, expected 503 after the fault")
    for lines in streams:
        if not any("the device failed" in line or "cuda:" in line for line in lines[-8:]):
            faults.append(f"a stream ended with {lines[-3:]}, expected an error event")
    events = [json.loads(line) for line in (folder / "log").read_text().splitlines() if line[:1] == "{"]
    failed = [event for event in events if event.get("event") == "device_failed"]
    if len(failed) != 1:
        faults.append(f"{len(failed)} log lines device_failed, expected 1")
    print(f"exit code {code} after {seconds:.2f} s; {[event.get('reason') for event in failed]}; a stream's "
          f"end: {[line for line in streams[0] if line][-2:]}")
    for fault in faults:
        print("fault:", fault)
    if faults:
        print((folder / "log").read_text()[-3000:])
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
