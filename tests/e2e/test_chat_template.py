"""A template of the user's own: its errors, its limits, its choice by name."""

import httpx
import pytest

from daemon import Daemon

TEMPLATE = """
{%- set text = messages[0].content -%}
{%- if text == 'raise' %}{{ raise_exception('Say it nicely.') }}{% endif -%}
{%- if text == 'loop' %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}
{%- endif -%}
{%- if text == 'grow' %}{{ 'a' * 1000000000 }}{% endif -%}
<{{ text }}>{% if tools is none %}no tools{% endif %}
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "own.jinja"
    path.write_text(TEMPLATE)
    with Daemon("--chat-template", str(path)) as daemon:
        with httpx.Client(base_url=daemon.url, timeout=60) as client:
            yield client


def messages(text: str) -> list:
    return [{"role": "user", "content": text}]


def test_the_file_replaces_the_models_template(own):
    tokens = own.post("/tokenize", json={"messages": messages("Hi")}).json()["tokens"]

    text = own.post("/detokenize", json={"tokens": tokens}).json()["prompt"]
    assert text.strip() == "<Hi>no tools"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize"])
@pytest.mark.parametrize("text, word", [
    ("raise", "Say it nicely."), ("loop", "steps"), ("grow", "bytes")])
def test_what_a_template_does_wrong_is_the_clients_to_know(own, path, text, word):
    answer = own.post(path, json={"messages": messages(text)})

    assert answer.status_code == 400
    assert word in answer.json()["error"]["message"]
    assert own.get("/health").status_code == 200


def test_an_unknown_name_stops_the_start():
    daemon = Daemon("--chat-template-name", "nosuch")

    assert daemon.process.wait(60) == 2
    assert "is not one of the model's, expected default" in daemon.log_text()
