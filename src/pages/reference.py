"""The reference of the API as HTML, from the OpenAPI document."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .examples import Schema, example, resolve
from .markup import Markup, element, markup, prose

_FIRST_ERROR = 400
_PROBLEM = re.compile(r"`(\w+)`: (.*?)(?=; `\w+`: |$)", re.DOTALL)


@dataclass(frozen=True)
class Labels:
    """The words of the reference that are in the language of the page, a code such as ``en``."""

    language: str
    parameters: str
    body: str
    answer: str
    errors: str
    example: str
    required: str
    optional: str
    default: str

    def element(self, name: str, text: str, **attributes: str) -> Markup:
        """Return an element with one of these words; all around it is in English."""
        language = {} if self.language == "en" else {"lang": self.language}
        return element(name, text, **attributes, **language)


@dataclass(frozen=True)
class _Operation:
    """A method and path, and its object in the document."""

    method: str
    path: str
    described: Schema

    @property
    def id(self) -> str:
        """The id of its section."""
        return str(self.described["operationId"]).strip("_").replace("_", "-")

    def errors(self) -> Iterator[tuple[str, str, str]]:
        """Yield status, code and text of each error."""
        for status, answer in self.described["responses"].items():
            if int(status) >= _FIRST_ERROR:
                yield from ((status, code, text) for code, text in _PROBLEM.findall(answer["description"]))

    def heading(self) -> Markup:
        """Return the method and the path."""
        method = element("span", self.method, class_=f"method {self.method.lower()}")
        return markup(method, " ", element("code", self.path))

    def link(self) -> Markup:
        """Return a link to its section."""
        return element("a", self.heading(), href=f"#{self.id}")


class Reference:
    """Renders the parts of the page; texts of the document are in English, headings in the language of ``labels``."""

    def __init__(self, document: Schema, labels: Labels) -> None:
        self._schemas: Mapping[str, Schema] = document["components"]["schemas"]
        self._security: Mapping[str, Schema] = document["components"].get("securitySchemes", {})
        self._labels = labels
        operations = [
            _Operation(method.upper(), path, described)
            for path, methods in document["paths"].items()
            for method, described in methods.items()
        ]
        self._groups = {
            tag["name"]: [operation for operation in operations if tag["name"] in operation.described["tags"]]
            for tag in document["tags"]
        }
        shared = set.intersection(*(set(operation.errors()) for operation in operations))
        self._shared_errors = [error for error in operations[0].errors() if error in shared]
        self._details = self._schemas["ProblemDetails"]

    def contents(self) -> Markup:
        """Return the list of all operations, by group."""
        return element(
            "ul",
            *(
                element("li", element("a", tag.capitalize(), href=f"#{tag}"), self._links(operations))
                for tag, operations in self._groups.items()
            ),
            lang="en",
        )

    def authentication(self) -> Markup:
        """Return how a request proves who sends it; empty if no request can."""
        return markup(*(prose(scheme["description"]) for scheme in self._security.values()))

    def errors(self) -> Markup:
        """Return the members of every error, and the errors that every operation has."""
        return markup(self._fields(self._details, sent=False), _listed_errors(self._shared_errors))

    def operations(self) -> Markup:
        """Return a section for each group, with one for each of its operations."""
        return markup(
            *(
                element(
                    "section",
                    element("h2", tag.capitalize()),
                    self._links(operations),
                    *map(self._operation, operations),
                    id=tag,
                    class_="group",
                )
                for tag, operations in self._groups.items()
            )
        )

    def _links(self, operations: Sequence[_Operation]) -> Markup:
        return element("ul", *(element("li", operation.link()) for operation in operations), class_="requests")

    def _operation(self, operation: _Operation) -> Markup:
        described = operation.described
        parameters = [self._parameter(parameter) for parameter in described.get("parameters", ())]
        return element(
            "section",
            element("h3", element("a", operation.heading(), href=f"#{operation.id}")),
            element("p", f"{described['summary']}.", class_="summary"),
            *(element("p", prose(text)) for text in (described.get("description"), _authentication(described)) if text),
            *self._part(self._labels.parameters, element("dl", *parameters) if parameters else None),
            *self._part(self._labels.body, self._body(described)),
            *self._part(
                self._labels.example,
                element("pre", element("code", example(operation.method, operation.path, described, self._schemas))),
            ),
            *self._part(self._labels.answer, self._answers(described)),
            *self._part(self._labels.errors, self._own_errors(operation)),
            id=operation.id,
            class_="card operation",
        )

    def _part(self, heading: str, content: Markup | None) -> tuple[Markup, ...]:
        return (self._labels.element("h4", heading), content) if content else ()

    def _parameter(self, parameter: Schema) -> Markup:
        schema = parameter["schema"]
        meaning = parameter.get("description") or schema["description"]
        return self._field(parameter["name"], schema, meaning, needed=parameter["required"])

    def _body(self, described: Schema) -> Markup | None:
        if "requestBody" not in described:
            return None
        (media_type, content), *others = described["requestBody"]["content"].items()
        schema = self._resolved(content["schema"])
        if "properties" not in schema:
            return element("p", prose(f"Content of the type `{media_type}`."))
        notes = [
            f"Or as `{media_type}`, with the field{'s' * (len(fields) > 1)} {_listed(fields)}."
            for media_type, other in others
            if (fields := self._resolved(other["schema"])["properties"])
        ]
        if choices := [name for choice in schema.get("oneOf", ()) for name in choice["required"]]:
            notes.append(f"Send exactly one of {_listed(choices)}.")
        return markup(self._fields(schema, sent=True), *(element("p", prose(note)) for note in notes))

    def _answers(self, described: Schema) -> Markup:
        return markup(
            *(
                self._answer(status, answer)
                for status, answer in described["responses"].items()
                if int(status) < _FIRST_ERROR
            )
        )

    def _answer(self, status: str, answer: Schema) -> Markup:
        content = answer.get("content", {})
        types = markup(*(markup(" ", element("code", media_type)) for media_type in content))
        line = element("p", _status(status), " ", answer["description"], types, class_="answer")
        schema: Schema = next((one["schema"] for one in content.values()), {})
        return markup(line, self._fields(self._resolved(schema), sent=False) if "$ref" in schema else Markup())

    def _own_errors(self, operation: _Operation) -> Markup | None:
        """Return the errors that not every operation has, and the members of an error that other errors lack."""
        errors = [error for error in operation.errors() if error not in self._shared_errors]
        refused = next(
            answer for status, answer in operation.described["responses"].items() if int(status) >= _FIRST_ERROR
        )
        details = self._resolved(next(iter(refused["content"].values()))["schema"])
        own = {n: field for n, field in details["properties"].items() if n not in self._details["properties"]}
        members = self._fields({**details, "properties": own}, sent=False) if own else Markup()
        return markup(_listed_errors(errors) if errors else Markup(), members) or None

    def _fields(self, schema: Schema, *, sent: bool) -> Markup:
        return element("dl", *self._rows(schema, "", sent=sent))

    def _rows(self, schema: Schema, prefix: str, *, sent: bool) -> Iterator[Markup]:
        for name, field in schema.get("properties", {}).items():
            needed = name in schema.get("required", ()) if sent else None
            yield self._field(prefix + name, field, field["description"], needed=needed)
            kind = self._resolved(_without_null(field))
            kind = self._resolved(kind["items"]) if "items" in kind else kind
            yield from self._rows(kind, f"{prefix}{name}.", sent=sent)

    def _field(self, name: str, schema: Schema, meaning: str, *, needed: bool | None) -> Markup:
        """Return a field; ``needed`` is None for one of an answer."""
        labels = self._labels
        kind = self._kind(schema) + ("" if needed is not None or not _is_nullable(schema) else " or null")
        facts = [prose(kind)]
        if needed:
            facts.append(labels.element("span", labels.required, class_="required"))
        elif needed is not None and (default := schema.get("default")) is not None:
            value = element("code", json.dumps(default))
            facts.append(element("span", labels.element("span", labels.default), " ", value, class_="default"))
        elif needed is not None:
            facts.append(labels.element("span", labels.optional))
        term = element("dt", element("code", name, class_="name"), " ", element("span", Markup(" · ".join(facts))))
        return element("div", term, element("dd", prose(meaning)))

    def _kind(self, schema: Schema) -> str:
        """Return the type of a value with its limits."""
        schema = self._resolved(_without_null(schema))
        if "const" in schema:
            return f"`{json.dumps(schema['const'])}`"
        if "enum" in schema:
            return f"one of {_listed([json.dumps(value) for value in schema['enum']], last='or')}"
        if schema["type"] == "array":
            items = self._kind(schema["items"])
            kind = f"list of {items}s" if items.isalpha() else f"list, each {items}"
            kind += _limits(schema, "minItems", "maxItems", "elements")
            return kind + (", distinct" if schema.get("uniqueItems") else "")
        if schema["type"] == "string":
            formats = [one["format"] for one in (schema, *schema.get("anyOf", ())) if "format" in one]
            kind = " or ".join(formats) or "string"
            kind += _limits(schema, "minLength", "maxLength", "characters")
            return kind + (f", matches `{schema['pattern']}`" if "pattern" in schema and not formats else "")
        return str(schema["type"]) + _limits(schema, "minimum", "maximum", "")

    def _resolved(self, schema: Schema) -> Schema:
        return resolve(schema, self._schemas)


def _authentication(described: Schema) -> str | None:
    if "security" not in described:
        return None
    first, *others = described["security"]
    scopes = next(iter(first.values()))
    if others:
        return "Requires a token, in the header `Authorization` or in the body."
    if not scopes:
        return "Requires an access token."
    return f"Requires an access token, or an API token with the scope {_listed(scopes)}."


def _listed_errors(errors: Sequence[tuple[str, str, str]]) -> Markup:
    rows = (
        element("div", element("dt", _status(status), " ", element("code", code)), element("dd", prose(text)))
        for status, code, text in errors
    )
    return element("dl", *rows, class_="errors")


def _status(status: str) -> Markup:
    return element("span", status, class_=f"status of{status[0]}")


def _is_nullable(schema: Schema) -> bool:
    return {"type": "null"} in schema.get("anyOf", ())


def _without_null(schema: Schema) -> Schema:
    """Return the schema of a value that is not null."""
    return next(one for one in schema["anyOf"] if one != {"type": "null"}) if _is_nullable(schema) else schema


def _limits(schema: Schema, least: str, most: str, unit: str) -> str:
    """Return the limits in words, such as ``, 1 to 64 characters``; empty without any."""
    low, high = schema.get(least), schema.get(most)
    if low is None and high is None:
        return ""
    if (low, high, unit) == (1, None, "characters"):
        return ", not empty"
    words = f"at most {high}" if low is None else f"at least {low}" if high is None else f"{low} to {high}"
    return f", {words} {unit}".rstrip()


def _listed(names: Sequence[str] | Mapping[str, Any], *, last: str = "and") -> str:
    """Return names as code, in a sentence."""
    *others, final = (f"`{name}`" for name in names)
    return f"{', '.join(others)} {last} {final}" if others else final
