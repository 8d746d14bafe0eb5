"""/tokenize and /detokenize, and their gRPC calls."""

import grpc
import pytest

TEXT = "Hello  world, \u00e9\U0001f600 <|im_end|> 123"
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


def tokenize(http, **fields):
    answer = http.post("/tokenize", json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def detokenize(http, tokens):
    answer = http.post("/detokenize", json={"tokens": tokens})
    assert answer.status_code == 200, answer.text
    return answer.json()["prompt"]


def test_text_comes_back(http):
    answer = tokenize(http, prompt=TEXT)

    assert answer["count"] == len(answer["tokens"])
    assert answer["max_model_len"] == 2048
    assert answer["token_strs"] is None
    assert 2 in answer["tokens"], "a control token written out is one token"
    assert detokenize(http, answer["tokens"]) == TEXT


def test_token_strings_join_to_the_text(http):
    answer = tokenize(http, model="smollm2", prompt="Hello world 12", return_token_strs=True)

    assert "".join(answer["token_strs"]) == "Hello world 12"


def test_messages_are_what_a_chat_reads(http, client):
    answer = tokenize(http, messages=MESSAGES)
    usage = client.chat.completions.create(model="smollm2", messages=MESSAGES, max_tokens=1).usage
    without = tokenize(http, messages=MESSAGES, add_generation_prompt=False)

    assert answer["count"] == usage.prompt_tokens
    assert detokenize(http, answer["tokens"]).endswith("<|im_start|>assistant\n")
    assert answer["tokens"][:without["count"]] == without["tokens"]
    assert without["count"] < answer["count"]


def test_a_text_longer_than_the_context_is_counted(http):
    assert tokenize(http, prompt="word " * 5000)["count"] > 2048


@pytest.mark.parametrize("path, body, param", [
    ("/tokenize", {}, "prompt"),
    ("/tokenize", {"prompt": 1}, "prompt"),
    ("/tokenize", {"prompt": "a", "messages": MESSAGES}, "prompt"),
    ("/tokenize", {"prompt": "a", "stream": True}, "stream"),
    ("/tokenize", {"messages": [{"role": "robot", "content": "a"}]}, "messages[0].role"),
    ("/tokenize", {"prompt": "a" * 70000 + " b" * 70000, "return_token_strs": True},
     "return_token_strs"),
    ("/detokenize", {}, "tokens"),
    ("/detokenize", {"tokens": [49152]}, "tokens[0]"),
    ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
    ("/detokenize", {"tokens": [1], "text": "a"}, "text"),
])
def test_a_fault_names_its_field(http, path, body, param):
    answer = http.post(path, json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_another_model_is_not_found(http):
    for path, fields in (("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": [1]})):
        assert http.post(path, json=fields | {"model": "other"}).status_code == 404


def test_only_post_is_allowed(http):
    assert http.get("/tokenize").status_code == 405


def test_grpc_gives_the_same_tokens(comet, stubs, http):
    messages = stubs.messages
    answer = comet.Tokenize(messages.TokenizeRequest(text=TEXT))
    conversation = messages.Conversation(
        messages=[messages.ChatMessage(**message) for message in MESSAGES])
    chat = comet.Tokenize(messages.TokenizeRequest(chat=conversation))

    assert list(answer.token_ids) == tokenize(http, prompt=TEXT)["tokens"]
    assert answer.context_length_max == 2048
    assert list(chat.token_ids) == tokenize(http, messages=MESSAGES)["tokens"]
    assert comet.Detokenize(messages.DetokenizeRequest(token_ids=answer.token_ids)).text == TEXT


@pytest.mark.parametrize("make, code", [
    (lambda m: ("Tokenize", m.TokenizeRequest()), grpc.StatusCode.INVALID_ARGUMENT),
    (lambda m: ("Tokenize", m.TokenizeRequest(text="a", model="other")), grpc.StatusCode.NOT_FOUND),
    (lambda m: ("Tokenize", m.TokenizeRequest(chat=m.Conversation())),
     grpc.StatusCode.INVALID_ARGUMENT),
    (lambda m: ("Detokenize", m.DetokenizeRequest(token_ids=[99999])),
     grpc.StatusCode.INVALID_ARGUMENT),
])
def test_grpc_refuses_faults(comet, stubs, make, code):
    name, request = make(stubs.messages)

    with pytest.raises(grpc.RpcError) as error:
        getattr(comet, name)(request)

    assert error.value.code() == code
