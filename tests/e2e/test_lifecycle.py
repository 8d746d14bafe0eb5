"""The daemon's start and end: where it listens, signals, drains."""

import contextlib
import json
import signal
import socket
import time

import grpc
import httpx
import pytest
from conftest import skip_unless_ci
from daemon import Daemon
from grpc_health.v1 import health_pb2, health_pb2_grpc
from long_stream import LONG, LongStream


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
