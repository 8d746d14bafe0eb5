"""Health, overload, clients that leave or dawdle, and the daemon's end."""

import contextlib
import json
import pathlib
import signal
import socket
import subprocess
import threading
import time

import grpc
import httpx
import openai
import pytest
from conftest import make_client, skip_unless_ci
from daemon import Daemon, binary_path, model_path
from grpc_health.v1 import health_pb2, health_pb2_grpc

LONG = {"model": "smollm2", "prompt": "Once upon a time", "max_tokens": 1500, "temperature": 0,
        "ignore_eos": True}


def read_events(answer, count):
    """The first `count` events' data."""
    events = []
    for line in answer.iter_lines():
        if line.startswith("data: "):
            events.append(line[6:])
        if len(events) == count:
            break
    return events


class LongStream:
    """A stream held open by a thread, begun when the constructor returns."""

    def __init__(self, daemon, **fields):
        self.text, self.lines, self.failure = "", [], None
        self._has_begun = threading.Event()
        self._body = LONG | {"stream": True} | fields
        self._url = daemon.url + "/v1/completions"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._has_begun.wait(60)

    def _run(self):
        try:
            with httpx.stream("POST", self._url, json=self._body, timeout=300) as answer:
                for line in answer.iter_lines():
                    self.lines.append(line)
                    self._has_begun.set()
        except httpx.HTTPError as failure:
            self.failure = failure
        self._has_begun.set()

    def is_over(self):
        return not self._thread.is_alive()

    def join(self):
        self._thread.join(300)
        assert not self._thread.is_alive()
        return self


def test_health_ready_and_metrics_agree(daemon, http):
    assert http.get("/health").json() == {"status": "alive"}
    assert http.get("/ready").json() == {"status": "ready"}
    answer = http.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    names = {line.split()[2] for line in answer.text.splitlines() if line.startswith("# TYPE")}
    assert names == {
        "comet_num_requests_running", "comet_num_requests_waiting", "comet_kv_cache_usage_ratio",
        "comet_preemptions_total", "comet_prompt_tokens_total", "comet_generation_tokens_total",
        "comet_requests_total", "comet_admission_rejections_total",
        "comet_time_to_first_token_seconds", "comet_inter_token_latency_seconds",
        "comet_e2e_request_latency_seconds", "comet_request_queue_time_seconds",
        "comet_step_duration_seconds", "comet_step_host_seconds",
        "comet_engine_last_step_age_seconds", "comet_nan_logits_total", "comet_build_info"}


def test_the_log_tells_what_was_chosen_where_an_option_says_0(daemon):
    lines = {line["event"]: line for line in daemon.log_lines()}
    options = lines["configuration"]["options"]

    assert options["http"]["num_threads"] == 0
    assert 1 <= lines["serving"]["http_threads"] <= 8
    for option in ("step_tokens_max", "running_sequences_max"):
        assert options["engine"]["scheduler"][option] == 0
        assert lines["model_loaded"][option] > 0


def test_metrics_count_what_a_client_saw(daemon, client):
    daemon.wait_idle()
    before = daemon.metrics()

    answer = client.completions.create(**{key: value for key, value in LONG.items()
                                          if key != "ignore_eos"} | {"max_tokens": 12})

    after = daemon.metrics()
    grown = {name: after[name] - before[name] for name in after}
    assert grown["comet_prompt_tokens_total"] == answer.usage.prompt_tokens
    assert grown["comet_generation_tokens_total"] == answer.usage.completion_tokens
    assert sum(grown[f'comet_requests_total{{reason="{reason}"}}']
               for reason in ("stop", "length")) == 1
    assert grown["comet_time_to_first_token_seconds_count"] == 1
    assert grown["comet_inter_token_latency_seconds_count"] == answer.usage.completion_tokens - 1
    assert grown["comet_e2e_request_latency_seconds_count"] == 1


def test_metrics_show_what_runs(daemon):
    stream = LongStream(daemon, max_tokens=60)

    during = daemon.metrics()
    stream.join()

    assert during["comet_num_requests_running"] == 1
    assert during["comet_kv_cache_usage_ratio"] > 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_cancels_its_request(daemon, stream):
    name = 'comet_requests_total{reason="cancelled"}'
    daemon.wait_idle()
    before = daemon.metrics()
    with socket.create_connection(("127.0.0.1", daemon.http_port)) as connection:
        body = json.dumps(LONG | {"stream": stream}).encode()
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
                           % (len(body), body))
        daemon.wait_metric("comet_num_requests_running", 1)
        tokens_at_leave = daemon.metrics()["comet_generation_tokens_total"]

    daemon.wait_metric(name, before[name] + 1)

    daemon.wait_idle()
    # One step for the token under way; the rest is what ran between our two looks.
    assert daemon.metrics()["comet_generation_tokens_total"] - tokens_at_leave < 20


def test_a_full_queue_answers_429(stubs):
    with Daemon("--running-sequences-max", "1", "--waiting-sequences-max", "1") as daemon:
        running = LongStream(daemon, max_tokens=120)
        waiting = threading.Thread(target=lambda: httpx.post(
            daemon.url + "/v1/completions", json=LONG | {"max_tokens": 2}, timeout=300))
        waiting.start()
        daemon.wait_metric("comet_num_requests_waiting", 1)

        with make_client(daemon) as client, pytest.raises(openai.RateLimitError) as refused:
            client.completions.create(model="smollm2", prompt="hi", max_tokens=2)
        with grpc.insecure_channel(daemon.grpc_address) as channel:
            with pytest.raises(grpc.RpcError) as grpc_refused:
                list(stubs.services.CometStub(channel).Generate(
                    stubs.messages.GenerateRequest(text="hi")))

        assert refused.value.response.headers["Retry-After"] == "1"
        assert refused.value.type == "rate_limit_error"
        assert grpc_refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(grpc_refused.value.trailing_metadata())["retry-after"] == "1"
        assert daemon.metrics()['comet_admission_rejections_total{reason="queue_full"}'] == 2
        assert httpx.get(daemon.url + "/ready").status_code == 200

        # More than the queue ever holds: told for good, whether or not it is full.
        never = httpx.post(daemon.url + "/v1/chat/completions", json={
            "messages": [{"role": "user", "content": "hi"}], "n": 2})
        assert never.status_code == 400 and never.json()["error"]["param"] == "n"
        with grpc.insecure_channel(daemon.grpc_address) as channel:
            with pytest.raises(grpc.RpcError) as grpc_never:
                list(stubs.services.CometStub(channel).Generate(
                    stubs.messages.GenerateRequest(text="hi", num_choices=2)))
        assert grpc_never.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        running.join()
        waiting.join()
        daemon.wait_idle()


def test_too_many_in_flight_answers_429():
    with Daemon("--requests-in-flight-max", "1") as daemon:
        running = LongStream(daemon, max_tokens=60)

        answer = httpx.post(daemon.url + "/v1/completions", json=LONG | {"max_tokens": 2})

        assert answer.status_code == 429
        assert daemon.metrics()['comet_admission_rejections_total{reason="in_flight"}'] == 1
        running.join()


def test_a_deadline_is_kept(daemon, http, client):
    start = time.monotonic()
    whole = http.post("/v1/completions", json=LONG | {"deadline_ms": 400})
    seconds = time.monotonic() - start

    assert whole.status_code == 504
    assert whole.json()["error"]["code"] == "deadline_exceeded"
    assert 0.3 < seconds < 10
    fields = {key: value for key, value in LONG.items() if key != "ignore_eos"}
    with pytest.raises(openai.APIError) as failed:
        for _ in client.completions.create(
                **fields, stream=True, extra_body={"deadline_ms": 400, "ignore_eos": True}):
            pass
    assert "time ran out" in failed.value.message


def test_a_client_that_does_not_read_is_dropped():
    with Daemon("--http-write-ms-max", "500", "--http-send-buffer-bytes", "4096") as daemon:
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", daemon.http_port))
        body = json.dumps({"model": "smollm2", "messages": [{"role": "user", "content": "Go on."}],
                           "stream": True, "n": 4, "max_tokens": 1500, "ignore_eos": True,
                           "logprobs": True, "top_logprobs": 20}).encode()
        slow.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
                     % (len(body), body))
        daemon.wait_metric("comet_num_requests_running", 4)

        other = httpx.post(daemon.url + "/v1/completions", json=LONG | {"max_tokens": 4}, timeout=60)
        daemon.wait_metric('comet_requests_total{reason="cancelled"}', 1, timeout_seconds=60)

        assert other.status_code == 200
        daemon.wait_idle()
        slow.close()


def test_a_grpc_client_that_does_not_read_is_cut_off(stubs):
    with Daemon("--grpc-write-ms-max", "500") as daemon:
        messages = stubs.messages
        request = messages.GenerateRequest(
            text="Once upon a time", output_tokens_max=1500, num_choices=4, ignore_eos=True,
            num_top_logprobs=20)
        # The client's library takes megabytes in unless its window is small.
        options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024)]
        with grpc.insecure_channel(daemon.grpc_address, options=options) as channel:
            stalled = stubs.services.CometStub(channel).Generate(
                request, metadata=(("x-request-id", "stalled"),))
            next(stalled)

            other = list(stubs.services.CometStub(channel).Generate(
                messages.GenerateRequest(text="hi", output_tokens_max=4)))
            daemon.wait_metric('comet_requests_total{reason="cancelled"}', 1)

            assert other
            daemon.wait_idle()
            assert daemon.log_line_of("stalled")["reason"] == "deadline_exceeded"
            with pytest.raises(grpc.RpcError) as cut:
                list(stalled)
            assert cut.value.code() in (grpc.StatusCode.CANCELLED,
                                        grpc.StatusCode.DEADLINE_EXCEEDED)


def test_sigterm_lets_a_stream_finish():
    with Daemon() as daemon:
        stream = LongStream(daemon, max_tokens=60)
        with grpc.insecure_channel(daemon.grpc_address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING

            daemon.process.send_signal(signal.SIGTERM)

            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        stream.join()

        assert stream.failure is None
        assert stream.lines[-2] == "data: [DONE]"
        assert daemon.process.wait(30) == 0
        assert daemon.log_lines()[-1]["event"] == "drained"


def test_while_draining_new_requests_and_probes_are_told(stubs):
    with Daemon() as daemon, httpx.Client(base_url=daemon.url, timeout=60) as kept:
        assert kept.get("/ready").status_code == 200
        stream = LongStream(daemon, max_tokens=400)
        daemon.process.send_signal(signal.SIGTERM)
        while not any(line["event"] == "draining" for line in daemon.log_lines()):
            time.sleep(0.01)

        answers = [kept.post("/v1/completions", json=LONG),  # On the connection it had.
                   httpx.post(daemon.url + "/v1/completions", json=LONG),
                   httpx.get(daemon.url + "/ready")]
        alive = httpx.get(daemon.url + "/health")
        with grpc.insecure_channel(daemon.grpc_address) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                list(stubs.services.CometStub(channel).Generate(
                    stubs.messages.GenerateRequest(text="hi")))
        assert not stream.is_over(), "the stream ended before all was asked: make it longer"

        for answer in answers:
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "1"
            assert answer.headers["Connection"] == "close"
            assert answer.json()["error"]["code"] == "unavailable"
        assert alive.status_code == 200
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert dict(refused.value.trailing_metadata())["retry-after"] == "1"
        stream.join()
        assert stream.failure is None
        assert stream.lines[-2] == "data: [DONE]"
        assert daemon.process.wait(30) == 0


def test_a_drain_with_nothing_to_wait_for_is_short():
    with Daemon() as daemon, httpx.Client(base_url=daemon.url) as kept, \
            grpc.insecure_channel(daemon.grpc_address) as channel:
        kept.get("/health")
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        time.sleep(0.3)  # Several of the daemon's looks at its own health, none of them news.

        start = time.monotonic()
        code = daemon.stop()

        news = []
        with contextlib.suppress(grpc.RpcError):
            news.extend(answer.status for answer in watch)
        assert news == [health_pb2.HealthCheckResponse.NOT_SERVING]
        assert code == 0
        assert time.monotonic() - start < 5  # Of the 30 of --drain-seconds.
        assert daemon.log_lines()[-1]["event"] == "drained"


def test_a_drain_does_not_wait_for_half_a_request():
    with Daemon() as daemon, \
            socket.create_connection(("127.0.0.1", daemon.http_port)) as upload:
        upload.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
                       b"Expect: 100-continue\r\n\r\n{")
        assert b"100 Continue" in upload.recv(1000)

        code = daemon.stop()

        assert code == 0
        assert daemon.log_lines()[-1]["event"] == "drained"


def test_the_drain_time_cuts_streams_off_with_an_error():
    daemon = Daemon("--drain-seconds", "1").wait_ready()
    stream = LongStream(daemon)

    start = time.monotonic()
    code = daemon.stop()
    stream.join()

    assert code == 0
    assert time.monotonic() - start < 20
    assert "event: error" in stream.lines
    error = json.loads(stream.lines[stream.lines.index("event: error") + 1][6:])["error"]
    assert error["code"] == "unavailable"
    assert "data: [DONE]" not in stream.lines


def test_a_second_signal_ends_at_once():
    daemon = Daemon().wait_ready()
    stream = LongStream(daemon)
    daemon.process.send_signal(signal.SIGINT)
    while not any(line["event"] == "draining" for line in daemon.log_lines()):
        time.sleep(0.01)

    daemon.process.send_signal(signal.SIGINT)

    assert daemon.process.wait(5) == 1
    stream.join()


def test_a_signal_while_the_model_loads_ends_the_daemon_at_once():
    # Blocked from the start, or one that comes before the daemon's own mask would kill it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        daemon = Daemon()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    assert daemon.stop() == 0
    events = [line["event"] for line in daemon.log_lines()]
    assert events[-1] == "stopped_while_loading"
    assert "model_loaded" not in events


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_both_front_ends_listen_on_both_families(stubs):
    if not has_ipv6():
        skip_unless_ci("this host has no IPv6")
    with Daemon("--host", "::") as daemon:
        for host in ("[::1]", "127.0.0.1"):
            assert httpx.get(f"http://{host}:{daemon.http_port}/ready").status_code == 200
            with grpc.insecure_channel(f"{host}:{daemon.grpc_port}") as channel:
                comet = stubs.services.CometStub(channel)
                info = comet.GetModelInfo(stubs.messages.GetModelInfoRequest(), timeout=30)
            assert info.name == "smollm2"


@pytest.mark.parametrize("flag, kind", [("--port", "http"), ("--grpc-port", "grpc")])
def test_a_port_in_use_is_told(daemon, flag, kind):
    port = daemon.http_port if flag == "--port" else daemon.grpc_port
    second = Daemon(flag, str(port))

    assert second.process.wait(120) == 1
    failure = next(line for line in second.log_lines() if line["event"] == "start_failed")
    assert failure["level"] == "error"
    assert failure["reason"].startswith(f"{kind}: cannot listen on 127.0.0.1:{port}")
    # Once more in words, for whoever started it by hand.
    assert f"comet: {failure['reason']}" in second.log_text()


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
