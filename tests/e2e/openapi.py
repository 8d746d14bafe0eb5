"""Checks answers against OpenAI's published schema."""

import functools
import pathlib

import jsonschema
import yaml


def _with_null(schema):
    """OpenAPI 3.0's `nullable`, which JSON Schema does not know, as a choice."""
    if isinstance(schema, list):
        return [_with_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _with_null(value) for key, value in schema.items() if key != "nullable"}
    if schema.get("nullable") is True:
        return {"anyOf": [made, {"type": "null"}]}
    return made


@functools.lru_cache(maxsize=1)
def _components(path: pathlib.Path):
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with open(path, encoding="utf-8") as file:
        return _with_null(yaml.load(file, loader)["components"])


def check(path: pathlib.Path, name: str, body) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": _components(path)}
    jsonschema.Draft202012Validator(schema).validate(body)
