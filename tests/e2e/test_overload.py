"""Health and metrics, queues that are full, deadlines, clients that leave or dawdle."""

import json
import socket
import threading
import time

import grpc
import httpx
import openai
import pytest
from conftest import make_client
from daemon import Daemon
from long_stream import LONG, LongStream


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
