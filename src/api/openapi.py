"""The OpenAPI 3.1 document, generated from the routes and their schemas."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web
from pydantic import Field
from pydantic.json_schema import models_json_schema

from .. import __version__
from ..core.database.limits import LimitReached
from ..errors import (
    CrossSite,
    Malformed,
    Misdirected,
    Problem,
    RequestStalled,
    StorageFull,
    TooLarge,
    TooMany,
    Unavailable,
    UnsupportedMediaType,
)
from .problems import CONTENT_TYPE
from .routing import FORM_TYPE, ID_PATTERN, Route
from .schema import Answer, QueryParameters
from .streaming import JSON_LINES

EVERYWHERE: tuple[type[Problem], ...] = (Misdirected, TooMany, Unavailable)
"""Problems of every route: the host check, nginx's rate limits and full queues apply to all routes."""
WITH_BODY: tuple[type[Problem], ...] = (Malformed, TooLarge)
STREAMED: tuple[type[Problem], ...] = (*WITH_BODY, RequestStalled, UnsupportedMediaType)
STORING: tuple[type[Problem], ...] = (StorageFull, LimitReached)

SECURITY_SCHEME = "bearer"
BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "An access token from POST /login, or an API token from POST /tokens with the listed scope.",
}
ANY_TYPE = "*/*"
REF_TEMPLATE = "#/components/schemas/{model}"
_PARAMETER = re.compile(r"{(\w+)}")


class Document(Answer):
    """An OpenAPI 3.1 document."""

    openapi: str = Field(description="The version of OpenAPI.")
    info: dict[str, Any] = Field(description="Name, version and licence of the service.")
    tags: list[dict[str, str]] = Field(description="The groups of operations, in the order of the reference.")
    paths: dict[str, Any] = Field(description="The operations by path and method.")
    components: dict[str, Any] = Field(description="The types that the operations refer to, and the authentication.")


class OpenApiRoutes:
    """Serves the document to programs, and redirects browsers to ``reference``, a URL relative to the document's.

    The document describes the routes that ``described`` contains on first use.
    """

    def __init__(self, described: Sequence[Route[Any]], reference: str) -> None:
        self._described = described
        self._reference = reference

    def routes(self) -> list[Route[Any]]:
        """Return the declaration."""
        return [
            Route(
                method="GET",
                path="/openapi.json",
                tag="operations",
                summary="Get this OpenAPI document",
                description="Browsers are redirected to the reference.",
                handler=self.answer,
                answer=Document,
                shell=self._redirect,
                other_statuses=(302,),
                needs_database=False,
            )
        ]

    async def answer(self, _: web.Request, __: None) -> Document:
        """Return the OpenAPI document."""
        return self.document

    @cached_property
    def document(self) -> Document:
        """The document, generated on first use, because it costs more than half of the time to wire the service."""
        return openapi_document(self._described)

    def _redirect(self, _: web.Request) -> web.Response:
        return web.Response(status=302, headers={hdrs.LOCATION: self._reference, hdrs.VARY: hdrs.ACCEPT})


def openapi_document(routes: Sequence[Route[Any]]) -> Document:
    """Return the document for the routes."""
    requests = {schema for route in routes for schema in (route.body, route.form) if schema}
    answers = {schema for route in routes for schema in (route.answer, route.lines, route.details) if schema}
    models: list[Any] = [(model, "validation") for model in _named(requests)]
    models += [(model, "serialization") for model in _named(answers)]
    # The parameters are described where they are, so only the types that they refer to are needed.
    queries = {route.query for route in routes if route.query}
    referred = {name: each for query in queries for name, each in _query_schema(query).get("$defs", {}).items()}
    _, schemas = models_json_schema(models, ref_template=REF_TEMPLATE)
    has_guards = any(route.guard or route.optional_guard for route in routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return Document(
        openapi="3.1.0",
        info={
            "title": "Sealpost",
            "version": __version__,
            "description": "A self-hosted service for one-time secrets.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        tags=[{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        paths=paths,
        components={
            "schemas": {**referred, **schemas["$defs"]},
            **({"securitySchemes": {SECURITY_SCHEME: BEARER}} if has_guards else {}),
        },
    )


def _named(models: Iterable[Any]) -> list[Any]:
    return sorted(models, key=lambda model: model.__name__)


def _operation(route: Route[Any]) -> dict[str, Any]:
    problems = route.problems + EVERYWHERE + (WITH_BODY if route.body else (Malformed,) if route.query else ())
    if route.streamed_body:
        problems += STREAMED
    if route.method == "POST":
        problems += (CrossSite,)
    if route.stores:
        problems += STORING
    guard = route.guard or route.optional_guard
    if guard:
        problems += guard.problems
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}_{re.sub(r'[^a-z0-9]+', '_', route.path).strip('_')}",
        "tags": [route.tag],
        "responses": {
            **{str(status): _answer(route, status) for status in (route.status, *route.other_statuses)},
            **_problems(problems, route),
        },
    }
    if route.description:
        operation["description"] = route.description
    if guard:
        operation["security"] = [{SECURITY_SCHEME: [guard.scope] if guard.scope else []}]
        if not (route.guard and route.guard.is_required):
            operation["security"].append({})
    if parameters := [*_path_parameters(route), *_query_parameters(route.query), *_headers(route)]:
        operation["parameters"] = parameters
    if route.body:
        operation["requestBody"] = {
            "required": _is_required(route.body),
            "content": {
                "application/json": {"schema": _ref(route.body)},
                **({FORM_TYPE: {"schema": _ref(route.form)}} if route.form else {}),
            },
        }
    if route.streamed_body:
        operation["requestBody"] = {"required": True, "content": {route.streamed_body: {"schema": {"type": "string"}}}}
    return operation


def _is_required(body: type[Any]) -> bool:
    """Tell whether a request needs a body: for one field, or for one of several."""
    return not {"required", "anyOf", "oneOf"}.isdisjoint(body.model_json_schema())


def _path_parameters(route: Route[Any]) -> Iterator[dict[str, Any]]:
    for name in _PARAMETER.findall(route.path):
        schema = {"type": "string", **({"pattern": f"^{ID_PATTERN}$"} if name.endswith("_id") else {})}
        meaning = route.path_parameters[name]
        yield {"name": name, "in": "path", "required": True, "description": meaning, "schema": schema}


def _query_parameters(query: type[QueryParameters] | None) -> Iterator[dict[str, Any]]:
    if query is None:
        return
    schema = _query_schema(query)
    for name, parameter in schema["properties"].items():
        yield {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": parameter}


def _query_schema(query: type[QueryParameters]) -> dict[str, Any]:
    return query.model_json_schema(ref_template=REF_TEMPLATE)


def _headers(route: Route[Any]) -> Iterator[dict[str, Any]]:
    for name, header in route.headers.items():
        schema = {
            "type": "string",
            **({"pattern": header.pattern} if header.pattern else {}),
            **({"examples": [header.example]} if header.example else {}),
        }
        yield {
            "name": name,
            "in": "header",
            "required": header.is_required,
            "description": header.meaning,
            "schema": schema,
        }


def _answer(route: Route[Any], status: int) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if status >= HTTPStatus.MULTIPLE_CHOICES:
        return answer
    if route.text:
        answer["content"] = {route.text.partition(";")[0]: {"schema": {"type": "string"}}}
    if route.is_file:
        answer["content"] = {ANY_TYPE: {"schema": {"type": "string", "format": "binary"}}}
    if route.answer:
        answer["content"] = {"application/json": {"schema": _ref(route.answer)}}
        if route.page or route.shell:
            answer["content"]["text/html"] = {"schema": {"type": "string"}}
    if route.lines:
        answer["description"] += "; the schema describes each line"
        answer["content"] = {JSON_LINES: {"schema": _ref(route.lines)}}
    return answer


def _problems(problems: Iterable[type[Problem]], route: Route[Any]) -> dict[str, Any]:
    by_status: dict[int, list[type[Problem]]] = {}
    for problem in problems:
        if problem not in by_status.setdefault(problem.status, []):
            by_status[problem.status].append(problem)
    # A browser gets a page.
    content = {CONTENT_TYPE: {"schema": _ref(route.details)}, "text/html": {"schema": {"type": "string"}}}
    return {
        str(status): {
            "description": "; ".join(f"`{problem.code}`: {problem.default}" for problem in some),
            "content": content,
        }
        for status, some in sorted(by_status.items())
    }


def _ref(model: type[Any]) -> dict[str, str]:
    return {"$ref": REF_TEMPLATE.format(model=model.__name__)}
