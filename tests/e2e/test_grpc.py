"""comet.v1, grpc.health.v1 and reflection through the real client."""

import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)


def greedy(stubs, **fields):
    messages = stubs.messages
    return messages.GenerateRequest(sampling=messages.SamplingParams(temperature=0), **fields)


def test_text_streams_with_usage_at_the_end(comet, stubs):
    responses = list(comet.Generate(greedy(stubs, text="One two three", output_tokens_max=8)))

    assert sum(len(response.token_ids) for response in responses) == 8
    assert responses[-1].finish_reason == stubs.messages.FINISH_REASON_LENGTH
    assert responses[-1].usage.completion_tokens == 8
    assert responses[-1].usage.prompt_tokens >= 3
    assert not any(response.HasField("usage") for response in responses[:-1])
    assert len(responses) > 2, "the answer came in one piece"


def test_greedy_tokens_equal_those_of_http(comet, stubs, client):
    conversation = stubs.messages.Conversation(
        messages=[stubs.messages.ChatMessage(role="user", content="Tell me about the sea.")])
    responses = list(comet.Generate(
        greedy(stubs, chat=conversation, output_tokens_max=32, num_top_logprobs=0)))

    answer = client.chat.completions.create(
        model="smollm2", temperature=0, max_tokens=32, logprobs=True,
        messages=[{"role": "user", "content": "Tell me about the sea."}])

    grpc_tokens = [logprob.token_bytes for r in responses for logprob in r.logprobs]
    http_tokens = [bytes(entry.bytes) for entry in answer.choices[0].logprobs.content]
    assert grpc_tokens == http_tokens
    assert "".join(r.text for r in responses) == answer.choices[0].message.content
    grpc_values = [logprob.logprob for r in responses for logprob in r.logprobs]
    assert grpc_values == pytest.approx(
        [entry.logprob for entry in answer.choices[0].logprobs.content], abs=1e-6)


def test_ids_are_used_as_they_are(comet, stubs):
    first = list(comet.Generate(greedy(stubs, text="One two three", output_tokens_max=4)))
    ids = [id for response in first for id in response.token_ids]

    again = list(comet.Generate(greedy(stubs, token_ids=stubs.messages.TokenIds(ids=ids),
                                       output_tokens_max=4)))

    assert again[-1].usage.prompt_tokens == len(ids)


def test_choices_are_told_apart(comet, stubs):
    messages = stubs.messages
    request = messages.GenerateRequest(
        text="Once upon a time", output_tokens_max=12, num_choices=3,
        sampling=messages.SamplingParams(temperature=1.2, seed=1))

    texts = ["", "", ""]
    ends = []
    for response in comet.Generate(request):
        texts[response.choice_idx] += response.text
        if response.finish_reason:
            ends.append(response.choice_idx)

    assert len(set(texts)) > 1
    assert sorted(ends) == [0, 1, 2]


def test_model_info_describes_the_model(comet, stubs):
    info = comet.GetModelInfo(stubs.messages.GetModelInfoRequest())

    assert info.name == "smollm2"
    assert info.context_length_max == 2048
    assert info.vocab_size == 49152
    assert info.has_chat_template
    assert 2 in info.end_of_generation_ids
    assert info.server_version


@pytest.mark.parametrize("fields, word", [
    ({}, "prompt"),
    ({"text": ""}, "prompt"),
    ({"text": "a", "num_choices": -1}, "num_choices"),
    ({"text": "a", "num_choices": 1000}, "num_choices"),
    ({"text": "a", "output_tokens_max": -5}, "output_tokens_max"),
    ({"text": "a", "output_tokens_max": 1 << 30}, "output_tokens_max"),
    ({"text": "a", "num_top_logprobs": -1}, "num_top_logprobs"),
    ({"text": "a", "num_top_logprobs": 21}, "num_top_logprobs"),
    ({"text": "a", "deadline_ms": -1}, "deadline_ms"),
    ({"text": "a " * 3000}, "context"),
    ({"text": "a", "stop": [""]}, "stop"),
    ({"text": "a", "stop_token_ids": [-1]}, "stop_token_ids"),
])
def test_bad_fields_are_named(comet, stubs, fields, word):
    with pytest.raises(grpc.RpcError) as error:
        list(comet.Generate(stubs.messages.GenerateRequest(**fields)))

    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert word in error.value.details()


@pytest.mark.parametrize("sampling", [
    {"temperature": -1}, {"temperature": float("nan")}, {"top_p": 0}, {"top_p": 1.5}, {"top_k": -1},
    {"min_p": 2}, {"repetition_penalty": 0}, {"presence_penalty": 3}, {"frequency_penalty": -3},
    {"logit_bias": {49152: 1}}, {"logit_bias": {1: 101}},
])
def test_bad_sampling_is_named(comet, stubs, sampling):
    request = stubs.messages.GenerateRequest(
        text="a", sampling=stubs.messages.SamplingParams(**sampling))

    with pytest.raises(grpc.RpcError) as error:
        list(comet.Generate(request))

    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert next(iter(sampling)) in error.value.details()


def test_bad_ids_and_roles_are_refused(comet, stubs):
    messages = stubs.messages
    requests = [
        messages.GenerateRequest(token_ids=messages.TokenIds(ids=[49152])),
        messages.GenerateRequest(token_ids=messages.TokenIds(ids=[-1])),
        messages.GenerateRequest(token_ids=messages.TokenIds()),
        messages.GenerateRequest(chat=messages.Conversation()),
        messages.GenerateRequest(chat=messages.Conversation(
            messages=[messages.ChatMessage(role="king", content="x")])),
    ]
    for request in requests:
        with pytest.raises(grpc.RpcError) as error:
            list(comet.Generate(request))
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_unknown_fields_are_refused(channel, stubs):
    generate = channel.unary_stream(
        "/comet.v1.Comet/Generate",
        request_serializer=lambda raw: raw,
        response_deserializer=stubs.messages.GenerateResponse.FromString)
    request = stubs.messages.GenerateRequest(text="a").SerializeToString()

    with pytest.raises(grpc.RpcError) as error:
        list(generate(request + b"\xc0\x3e\x01"))  # Field 1000, a varint.

    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "1000" in error.value.details()


def test_garbage_is_refused_and_nothing_breaks(channel, comet, stubs):
    generate = channel.unary_stream("/comet.v1.Comet/Generate",
                                    request_serializer=lambda raw: raw,
                                    response_deserializer=lambda raw: raw)

    with pytest.raises(grpc.RpcError):
        list(generate(b"\xff\xff\xff\xff\x07"))

    assert comet.GetModelInfo(stubs.messages.GetModelInfoRequest()).name == "smollm2"


def test_invalid_utf8_is_refused(channel, comet, stubs):
    generate = channel.unary_stream("/comet.v1.Comet/Generate",
                                    request_serializer=lambda raw: raw,
                                    response_deserializer=lambda raw: raw)
    valid = stubs.messages.GenerateRequest(text="ab").SerializeToString()

    with pytest.raises(grpc.RpcError) as error:
        list(generate(valid.replace(b"ab", b"\xff\xfe")))

    # A message that does not parse never reaches our code: gRPC C++'s callback server finishes the
    # call by itself, with this code.
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert comet.GetModelInfo(stubs.messages.GetModelInfoRequest()).name == "smollm2"


def test_too_large_a_message_is_refused(comet, stubs):
    with pytest.raises(grpc.RpcError) as error:
        list(comet.Generate(stubs.messages.GenerateRequest(text="a" * (5 << 20))))

    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_another_model_is_not_found(comet, stubs):
    with pytest.raises(grpc.RpcError) as error:
        list(comet.Generate(stubs.messages.GenerateRequest(model="other", text="a")))

    assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_request_id_comes_back(comet, stubs, daemon):
    call = comet.Generate(greedy(stubs, text="Hello", output_tokens_max=2),
                          metadata=(("x-request-id", "e2e:grpc"),))
    list(call)

    assert dict(call.initial_metadata())["x-request-id"] == "e2e:grpc"
    assert daemon.log_line_of("e2e:grpc")["completion_tokens"] == 2


def test_cancelling_frees_the_request(comet, stubs, daemon):
    before = daemon.metrics()["comet_requests_total{reason=\"cancelled\"}"]
    call = comet.Generate(greedy(stubs, text="Hello", output_tokens_max=1500, ignore_eos=True))
    next(call)

    call.cancel()

    daemon.wait_metric("comet_requests_total{reason=\"cancelled\"}", before + 1)
    daemon.wait_idle()


def test_deadline_of_message_and_of_call(comet, stubs):
    long = {"text": "Hello", "output_tokens_max": 1500, "ignore_eos": True}

    with pytest.raises(grpc.RpcError) as of_message:
        list(comet.Generate(greedy(stubs, deadline_ms=300, **long)))
    with pytest.raises(grpc.RpcError) as of_call:
        list(comet.Generate(greedy(stubs, **long), timeout=0.5))

    assert of_message.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert of_call.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_health_serves_both_names(channel):
    health = health_pb2_grpc.HealthStub(channel)

    for service in ("", "comet.v1.Comet"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as error:
        health.Check(health_pb2.HealthCheckRequest(service="other"))
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_services(channel):
    names = set(ProtoReflectionDescriptorDatabase(channel).get_services())

    assert {"comet.v1.Comet", "grpc.health.v1.Health"} <= names


def test_a_slow_reader_holds_up_nobody(comet, stubs, daemon):
    slow = comet.Generate(greedy(stubs, text="Hello", output_tokens_max=200, ignore_eos=True))
    next(slow)
    start = time.monotonic()

    list(comet.Generate(greedy(stubs, text="Hi", output_tokens_max=4)))

    assert time.monotonic() - start < 20
    assert sum(len(response.token_ids) for response in slow) >= 198
