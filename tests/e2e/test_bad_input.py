"""What a client can get wrong: a clear answer, and nothing lost for others."""

import socket

import httpx
import pytest

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture(autouse=True)
def still_serves(daemon, http):
    yield
    answer = http.post(CHAT, json={"model": "smollm2", "messages": MESSAGES, "max_tokens": 1})
    assert answer.status_code == 200


def error_of(answer, status=400):
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] and error["type"] and error["code"]
    return error


@pytest.mark.parametrize("field, value", [
    ("messages", []), ("messages", "hi"), ("messages", [{"role": "user"}]), ("messages", None),
    ("max_tokens", -1), ("max_tokens", 0), ("max_tokens", 10 ** 9), ("max_tokens", 10 ** 18),
    ("max_tokens", "5"), ("n", 0), ("n", -1), ("n", 10 ** 6), ("n", 1.5), ("top_p", 0),
    ("top_p", -1), ("top_p", 2), ("top_p", "x"), ("top_logprobs", -1), ("top_logprobs", 21),
    ("logprobs", 3), ("temperature", 3), ("temperature", []), ("stop", [""]), ("stop", 5),
    ("seed", 0.5), ("stream", 1), ("logit_bias", {"a": 1}), ("logit_bias", {"1": 1000}),
    ("tools", [{}]), ("functions", [{}]), ("response_format", {"type": "json_object"}),
    ("audio", {}), ("reasoning_effort", "low"), ("no_such_field", 1), ("web_search_options", {}),
])
def test_wrong_chat_fields_are_named(http, field, value):
    body = {"model": "smollm2", "messages": MESSAGES, "logprobs": field == "top_logprobs"} | {field: value}

    error = error_of(http.post(CHAT, json=body))

    assert error["param"].split("[")[0].split(".")[0] == field
    assert field in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("field, value", [
    ("prompt", None), ("prompt", []), ("prompt", 5), ("prompt", [[]]), ("prompt", [-1]),
    ("prompt", [49152]), ("prompt", [1, "a"]), ("logprobs", -1), ("logprobs", 100),
    ("echo", True), ("suffix", "x"), ("best_of", 3), ("messages", MESSAGES),
])
def test_wrong_completion_fields_are_named(http, field, value):
    body = {"model": "smollm2", "prompt": "hi"} | {field: value}

    assert error_of(http.post(COMPLETIONS, json=body))["param"].split("[")[0] == field


def test_unknown_model_is_not_found(http):
    body = {"model": "gpt-4", "messages": MESSAGES}

    error = error_of(http.post(CHAT, json=body), 404)

    assert error["code"] == "model_not_found"


@pytest.mark.parametrize("prompt", ["a " * 3000, list(range(100, 2148))])
def test_prompt_longer_than_the_context_is_refused(http, prompt):
    body = {"model": "smollm2", "prompt": prompt}

    error = error_of(http.post(COMPLETIONS, json=body))

    assert error["code"] == "context_length_exceeded"
    assert "2048" in error["message"]


@pytest.mark.parametrize("path, prompt, param", [
    (COMPLETIONS, {"prompt": "hi"}, "max_tokens"),
    (CHAT, {"messages": [{"role": "user", "content": "hi"}]}, "max_tokens"),
    (CHAT, {"messages": [{"role": "user", "content": "hi"}]}, "max_completion_tokens"),
])
def test_prompt_and_output_beyond_the_context_are_refused(http, path, prompt, param):
    error = error_of(http.post(path, json={"model": "smollm2", **prompt, param: 2048}))

    assert (error["code"], error["param"]) == ("context_length_exceeded", param)


def test_the_default_length_ends_with_the_context(http):
    body = {"model": "smollm2", "prompt": list(range(100, 100 + 2043)), "ignore_eos": True}

    answer = http.post(COMPLETIONS, json=body)

    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 5
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert error_of(http.post(COMPLETIONS, json=body | {"max_tokens": 6}))["param"] == "max_tokens"


def test_more_choices_than_the_queue_holds_are_refused(http):
    body = {"model": "smollm2", "prompt": ["hi"] * 40, "n": 16, "max_tokens": 1}

    error = error_of(http.post(COMPLETIONS, json=body))

    assert error["param"] == "n"
    assert "640" in error["message"] and "512" in error["message"]


@pytest.mark.parametrize("body", [
    b"", b"{", b"nonsense", b'{"model": }', b'{"a": 1} x', b'{"a": 1e999}', b"\x00",
    b'{"model": "\xff\xfe"}', b'{"model": "\xed\xa0\x80"}', b'"text"', b"[]", b"null",
    b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000,
    b'{"messages":' + b"[" * 65 + b"]" * 65 + b"}",
])
def test_broken_json_is_refused(http, body):
    for path in (CHAT, COMPLETIONS):
        error_of(http.post(path, content=body, headers={"Content-Type": "application/json"}))


def test_every_file_of_the_json_suite_gets_an_answer(http, require_data):
    folder = require_data("json/JSONTestSuite/test_parsing")
    files = sorted(folder.glob("*.json"))
    assert len(files) >= 300

    # None of them is a request, so each is refused, whatever it is as JSON.
    for file in files:
        for path in (CHAT, COMPLETIONS):
            answer = http.post(path, content=file.read_bytes(),
                               headers={"Content-Type": "application/json"})
            error_of(answer)


def test_a_body_over_the_limit_is_refused(http):
    body = b'{"model": "' + b"x" * (5 << 20) + b'"}'

    assert error_of(http.post(CHAT, content=body), 413)["code"] == "body_too_large"


def test_a_body_with_a_million_values_is_refused(http):
    body = b'{"model": "smollm2", "prompt": [' + b"1," * 1_000_001 + b"1]}"

    assert "values" in error_of(http.post(COMPLETIONS, content=body))["message"]


def test_wrong_paths_methods_and_types_are_told(http):
    assert error_of(http.get("/v1/nothing"), 404)["code"] == "unknown_url"
    answer = http.get(CHAT)
    assert error_of(answer, 405)["code"] == "method_not_allowed"
    assert answer.headers["Allow"] == "POST"
    form = http.post(CHAT, data={"a": "b"})
    assert error_of(form, 415)["code"] == "unsupported_media_type"


def test_a_bad_request_id_is_refused(http):
    answer = http.post(CHAT, json={}, headers={"X-Request-Id": "a b"})

    assert error_of(answer)["param"] == "X-Request-Id"


def raw_request(daemon, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", daemon.http_port), timeout=20) as connection:
        connection.sendall(data)
        received = b""
        while part := connection.recv(65536):
            received += part
        return received


@pytest.mark.parametrize("data, status", [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # A TLS client.
    (b"GET / HTTP/1.1\r\nHost: x\r\nBad Header\r\n\r\n", 400),
    (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20000 + b"\r\n\r\n", 431),
    (b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
     b"Transfer-Encoding: chunked\r\n\r\n{}", 400),
])
def test_malformed_http_is_refused(daemon, data, status):
    answer = raw_request(daemon, data)

    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]


def test_a_client_that_vanishes_before_its_body_harms_nobody(daemon):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", daemon.http_port)) as connection:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
    httpx.get(daemon.url + "/health").raise_for_status()
