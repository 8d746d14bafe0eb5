"""The OpenAI endpoints through the real client."""

import json
import re

import grpc
import openai
import pytest

import openapi
from conftest import make_client
from daemon import Daemon

PARIS = [{"role": "user", "content": "What is the capital of France?"}]
LONG = [{"role": "user", "content": "Tell me a long story about a dog."}]


def chat(client, **fields):
    fields = {"model": "smollm2", "messages": PARIS, "temperature": 0, "max_tokens": 16} | fields
    return client.chat.completions.create(**fields)


def complete(client, **fields):
    fields = {"model": "smollm2", "prompt": "The capital of France is", "temperature": 0,
              "max_tokens": 8} | fields
    return client.completions.create(**fields)


def test_chat_answers_in_english(client):
    answer = chat(client)

    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.model == "smollm2"


def test_chat_stream_gives_the_same_text(client):
    fields = {"messages": LONG, "max_tokens": 40, "extra_body": {"ignore_eos": True}}
    whole = chat(client, **fields)

    chunks = list(chat(client, stream=True, **fields))

    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    assert len({chunk.id for chunk in chunks}) == 1
    assert len(chunks) > 10, "the answer came in one piece"


def test_chat_stream_reports_usage_when_asked(client):
    whole = chat(client)

    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))

    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage


def test_usage_counts_tokens(client):
    usage = chat(client, messages=LONG, max_tokens=10).usage

    assert usage.completion_tokens == 10
    assert usage.prompt_tokens > 10
    assert usage.total_tokens == usage.prompt_tokens + 10


def test_completion_continues_text(client):
    whole = complete(client)

    text = "".join(chunk.choices[0].text for chunk in complete(client, stream=True))

    assert whole.choices[0].text
    assert text == whole.choices[0].text
    assert whole.object == "text_completion"


@pytest.fixture(scope="module")
def sentencepiece_daemon(require_data):
    """SentencePiece writes the space between two words into the second one's token."""
    with Daemon("--model", str(require_data("models/stories260K.gguf")), "--context-length", "256",
                "--kv-cache-bytes", str(16 << 20)) as running:
        yield running


def test_a_completion_keeps_the_space_after_its_prompt(sentencepiece_daemon, stubs):
    prompt = "Once upon a time, there was a little girl"
    with make_client(sentencepiece_daemon) as client:
        fields = {"model": client.models.list().data[0].id}
        whole = complete(client, prompt=prompt, logprobs=0, **fields).choices[0]
        chunks = complete(client, prompt=prompt, stream=True, **fields)
        streamed = "".join(chunk.choices[0].text for chunk in chunks)
        stopped = complete(client, prompt=prompt, stop=whole.logprobs.tokens[0], **fields).choices[0]
        begun = complete(client, prompt=[1], **fields).choices[0]  # BOS alone: no text before it.
    with grpc.insecure_channel(sentencepiece_daemon.grpc_address) as channel:
        request = stubs.messages.GenerateRequest(
            text=prompt, output_tokens_max=8, sampling=stubs.messages.SamplingParams(temperature=0))
        by_grpc = "".join(response.text for response in
                          stubs.services.CometStub(channel).Generate(request))

    assert whole.text.startswith(" ")
    assert whole.text == streamed == by_grpc == "".join(whole.logprobs.tokens)
    for token, offset in zip(whole.logprobs.tokens, whole.logprobs.text_offset, strict=True):
        assert whole.text[offset:].startswith(token)
    assert (stopped.text, stopped.finish_reason) == ("", "stop")
    assert begun.text and not begun.text.startswith(" ")


def test_max_completion_tokens_is_max_tokens(client):
    answer = client.chat.completions.create(model="smollm2", messages=LONG, max_completion_tokens=5)

    assert answer.usage.completion_tokens == 5
    assert answer.choices[0].finish_reason == "length"


def greedy_tokens(comet, stubs, count, **prompt):
    """(id, bytes) of the tokens that greedy decoding gives: only gRPC tells ids."""
    messages = stubs.messages
    request = messages.GenerateRequest(output_tokens_max=count, num_top_logprobs=0,
                                       sampling=messages.SamplingParams(temperature=0), **prompt)
    return [(logprob.token_id, logprob.token_bytes) for response in comet.Generate(request)
            for logprob in response.logprobs]


def test_prompt_as_ids_equals_prompt_as_text(client, comet, stubs):
    tokens = greedy_tokens(comet, stubs, 12, text="Once upon a time")
    # A word of one token, with its space, is always spelled by that token.
    token_id, word = next((id, spelled.decode()) for id, spelled in tokens
                          if re.fullmatch(rb" [a-z]+", spelled))

    by_text = complete(client, prompt=word)
    by_ids = complete(client, prompt=[token_id])

    assert by_ids.choices[0].text == by_text.choices[0].text
    assert by_ids.usage.prompt_tokens == by_text.usage.prompt_tokens == 1


def test_several_prompts_and_choices_are_numbered_in_order(client):
    prompts = ["The capital of France is", "One two three four five"]
    alone = [complete(client, prompt=prompt).choices[0].text for prompt in prompts]

    answer = complete(client, prompt=prompts, n=2)

    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in answer.choices] == [alone[0], alone[0], alone[1], alone[1]]


def test_n_gives_choices_that_differ(client):
    answer = chat(client, messages=LONG, n=4, temperature=1.0, seed=3, max_tokens=24)

    texts = [choice.message.content for choice in answer.choices]
    assert len(texts) == 4
    assert len(set(texts)) > 1
    assert answer.usage.completion_tokens <= 4 * 24


def test_n_choices_interleave_in_a_stream(client):
    whole = chat(client, messages=LONG, n=3, temperature=1.0, seed=5, max_tokens=16)

    texts = ["", "", ""]
    for chunk in chat(client, messages=LONG, n=3, temperature=1.0, seed=5, max_tokens=16, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""

    assert texts == [choice.message.content for choice in whole.choices]


def test_seed_reproduces_sampled_text(client):
    def sample(seed):
        return chat(client, messages=LONG, temperature=1.2, seed=seed,
                    max_tokens=24).choices[0].message.content

    assert sample(7) == sample(7)
    assert len({sample(seed) for seed in range(4)}) > 1


@pytest.mark.parametrize("stream", [False, True])
def test_stop_text_ends_the_output_before_itself(client, stream):
    text = complete(client, prompt="One two three", max_tokens=24).choices[0].text
    middle = text[len(text) // 2:len(text) // 2 + 4]

    answer = complete(client, prompt="One two three", max_tokens=24, stop=["never there", middle],
                      stream=stream)

    choices = [chunk.choices[0] for chunk in answer] if stream else answer.choices
    assert "".join(choice.text for choice in choices) == text[:text.index(middle)]
    assert choices[-1].finish_reason == "stop"


def test_stop_token_ends_the_output(client, comet, stubs):
    ids = [id for id, _ in greedy_tokens(comet, stubs, 8, text="One two three")]
    stop_at = next(i for i in range(1, len(ids)) if ids[i] not in ids[:i])

    answer = complete(client, prompt="One two three", extra_body={"stop_token_ids": [ids[stop_at]]})

    assert answer.usage.completion_tokens == stop_at + 1
    assert answer.choices[0].finish_reason == "stop"


def test_ignore_eos_runs_to_the_limit(client):
    answer = chat(client, max_tokens=40, extra_body={"ignore_eos": True})

    assert answer.usage.completion_tokens == 40
    assert answer.choices[0].finish_reason == "length"


def test_logit_bias_forbids_a_token(client, comet, stubs):
    (token_id, _), = greedy_tokens(comet, stubs, 1, text="The capital of France is")
    free = complete(client, max_tokens=1, logprobs=2).choices[0].logprobs

    biased = complete(client, max_tokens=1, logprobs=0, logit_bias={str(token_id): -100})

    second = next(text for text in free.top_logprobs[0] if text != free.tokens[0])
    assert biased.choices[0].logprobs.tokens[0] == second


def test_chat_logprobs_agree_with_the_text(client):
    answer = chat(client, logprobs=True, top_logprobs=3, max_tokens=12)

    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    spelled = b"".join(bytes(entry.bytes) for entry in content)
    assert answer.choices[0].message.content in spelled.decode()
    for entry in content:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token, "greedy takes the best"
        assert entry.top_logprobs[0].logprob >= entry.top_logprobs[1].logprob


def test_completion_logprobs_have_their_own_form(client):
    answer = complete(client, logprobs=2)

    logprobs = answer.choices[0].logprobs
    assert len(logprobs.tokens) == answer.usage.completion_tokens
    assert logprobs.text_offset[0] == 0
    assert logprobs.text_offset[1] == len(logprobs.tokens[0])
    assert all(len(top) in (2, 3) for top in logprobs.top_logprobs)


def test_streamed_logprobs_equal_whole_ones(client):
    whole = chat(client, messages=LONG, logprobs=True, top_logprobs=2)

    streamed = []
    for chunk in chat(client, messages=LONG, logprobs=True, top_logprobs=2, stream=True):
        if chunk.choices[0].logprobs:
            streamed += chunk.choices[0].logprobs.content

    assert streamed == whole.choices[0].logprobs.content


def test_system_message_and_text_parts_reach_the_template(client):
    parts = chat(client, messages=[{"role": "user", "content": [
        {"type": "text", "text": "What is the capital of France?"}]}])
    system = chat(client, messages=[{"role": "system", "content": "Answer in one word."}] + PARIS)

    assert parts.usage.prompt_tokens == chat(client).usage.prompt_tokens
    assert system.usage.prompt_tokens != parts.usage.prompt_tokens


def test_models_are_listed_and_found(client):
    models = client.models.list().data

    assert [model.id for model in models] == ["smollm2"]
    assert models[0].max_model_len == 2048
    assert client.models.retrieve("smollm2") == models[0]
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("other")
    assert error.value.code == "model_not_found"


def test_a_request_may_leave_the_model_out(http):
    answer = http.post("/v1/chat/completions", json={"messages": PARIS, "max_tokens": 1}).json()

    assert answer["model"] == "smollm2"


def test_request_id_comes_back_and_is_logged_without_text(http, daemon):
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "zebra crossing"}],
            "max_tokens": 4}

    answer = http.post("/v1/chat/completions", json=body, headers={"X-Request-Id": "e2e:1"})

    assert answer.headers["X-Request-Id"] == "e2e:1"
    line = daemon.log_line_of("e2e:1")
    assert line["event"] == "request_finished"
    assert line["completion_tokens"] == answer.json()["usage"]["completion_tokens"]
    assert line["total_seconds"] >= line["first_token_seconds"] > 0
    assert "zebra" not in daemon.log_text()
    assert answer.json()["choices"][0]["message"]["content"] not in json.dumps(line)


def test_stream_is_framed_as_events(http):
    body = {"model": "smollm2", "messages": PARIS, "max_tokens": 4, "stream": True}

    with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        text = answer.read().decode()

    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert text.endswith("data: [DONE]\n\n")
    assert all(re.fullmatch(r"data: .+", event) for event in text.split("\n\n")[:-1])


def test_bodies_agree_with_the_published_schema(http, require_data):
    path = require_data("http/openai-openapi.yaml")
    base = {"model": "smollm2", "max_tokens": 4, "n": 2}
    chat_body = base | {"messages": PARIS, "logprobs": True, "top_logprobs": 2}
    completion_body = base | {"prompt": "Hello", "logprobs": 2}
    streaming = {"stream": True, "stream_options": {"include_usage": True}}

    def post(url, body):
        return http.post(url, json=body)

    def events(url, body):
        text = post(url, body | streaming).text
        return [json.loads(event[6:]) for event in text.split("\n\n")[:-2]]

    openapi.check(path, "CreateChatCompletionResponse",
                  post("/v1/chat/completions", chat_body).json())
    openapi.check(path, "CreateCompletionResponse", post("/v1/completions", completion_body).json())
    for event in events("/v1/chat/completions", chat_body):
        usage = event.pop("usage")  # The schema types it as an object, its text allows null.
        if usage is not None:
            openapi.check(path, "CompletionUsage", usage)
        openapi.check(path, "CreateChatCompletionStreamResponse", event)
    openapi.check(path, "ListModelsResponse", http.get("/v1/models").json())
    openapi.check(path, "Model", http.get("/v1/models/smollm2").json())
    openapi.check(path, "ErrorResponse", post("/v1/chat/completions", {}).json())
