"""Commands that send the requests of an OpenAPI document, made from its examples."""

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

ORIGIN = "\0"
"""The place of the service's URL in a command: the only character that HTML cannot contain."""
_PARAMETER = re.compile(r"{(\w+)}")
_VARIABLE = re.compile(r'"(\$[A-Z_]+)"')

Schema = Mapping[str, Any]


def resolve(schema: Schema, schemas: Mapping[str, Schema]) -> Schema:
    """Return a schema, or the one that it refers to."""
    return schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def example(method: str, path: str, described: Schema, schemas: Mapping[str, Schema]) -> str:
    """Return a command for a POSIX shell that sends an operation's request, and saves a response that is a file.

    Tokens, path parameters and values of earlier responses are variables of the shell.
    """
    path = _PARAMETER.sub(lambda name: f"${name[1].upper()}", path)
    query = "&".join(
        f"{parameter['name']}={parameter['schema']['examples'][0]}"
        for parameter in described.get("parameters", ())
        if parameter["in"] == "query" and "examples" in parameter["schema"]
    )
    body, media_type = _body(described, schemas), _streamed(described)
    # curl sends a POST if there is a body, and waits for the body of a response to HEAD unless it knows that method.
    chosen = "" if method == ("POST" if body else "GET") else " -I" if method == "HEAD" else f" -X {method}"
    if any("*/*" in answer.get("content", {}) for answer in described["responses"].values()):
        chosen += " -OJ"
    parts = [f'curl{chosen} "{ORIGIN}{path}{"?" if query else ""}{query}"']
    if "security" in described:
        parts.append('-H "Authorization: Bearer $TOKEN"')
    parts += (
        f'-H "{parameter["name"]}: {parameter["schema"]["examples"][0]}"'
        for parameter in described.get("parameters", ())
        if parameter["in"] == "header" and "examples" in parameter["schema"]
    )
    if media_type:
        parts.append(f'-H "Content-Type: {media_type}" -T file.txt')
    if body:
        parts.append(f"-d {body}")
    return " \\\n  ".join(parts)


def _streamed(described: Schema) -> str | None:
    """Return the media type of a body that is no JSON."""
    media_type = next(iter(described.get("requestBody", {"content": {}})["content"]), None)
    return None if media_type == "application/json" else media_type


def _body(described: Schema, schemas: Mapping[str, Schema]) -> str | None:
    """Return the example of a JSON body, quoted for the shell."""
    if "requestBody" not in described or _streamed(described):
        return None
    schema = resolve(next(iter(described["requestBody"]["content"].values()))["schema"], schemas)
    body = schema["examples"][0]
    ordered = {name: body[name] for name in schema["properties"] if name in body}
    quoted = shlex.quote(json.dumps(ordered, ensure_ascii=False))
    # The shell fills in a variable only outside the single quotes.
    return _VARIABLE.sub(r'''"'"\1"'"''', quoted)
