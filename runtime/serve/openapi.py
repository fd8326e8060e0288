"""The HTTP interface as an OpenAPI document, made from the same table that routes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be done."""

    method: str
    path: str  # with {parameters}
    handler: Callable[[Request], Awaitable[Response]]
    summary: str
    tag: str
    body: Any = None  # a msgspec type, or a media type of bytes
    returns: Any = None
    status: int = 200
    query: tuple[tuple[str, str, str], ...] = ()  # name, JSON type, what it says


class Problem(msgspec.Struct, frozen=True):
    """Why something was refused: expected, got, what to do."""

    error: str


def document(operations: list[Operation], version: str) -> dict[str, Any]:
    """OpenAPI 3.1."""
    types = [
        t for one in operations for t in (one.body, one.returns) if t is not None and not isinstance(t, str)
    ]
    distinct = list(dict.fromkeys([*types, Problem]))
    schemas, components = msgspec.json.schema_components(distinct, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(distinct, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        names = [part[1:-1] for part in one.path.split("/") if part.startswith("{")]
        answer: dict[str, Any] = {"description": "done"}
        if one.returns is not None:
            answer["content"] = _content(one.returns, schema_of)
        entry: dict[str, Any] = {
            "summary": one.summary,
            "operationId": one.handler.__name__,
            "tags": [one.tag],
            "responses": {
                str(one.status): answer,
                "4XX": {"description": "refused", "content": _content(Problem, schema_of)},
            },
        }
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ] + [
            {"name": name, "in": "query", "description": text, "schema": {"type": kind}}
            for name, kind, text in one.query
        ]
        if parameters:
            entry["parameters"] = parameters
        if one.body is not None:
            entry["requestBody"] = {"required": True, "content": _content(one.body, schema_of)}
        paths.setdefault(one.path, {})[one.method.lower()] = entry
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "doppelgan",
            "version": version,
            "description": "Live GAN face editing: turn everything that the page turns.",
        },
        "security": [{"token": []}, {"cookie": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "doppelgan-PORT"},
            },
        },
    }


def _content(what: Any, schema_of: dict[Any, Any]) -> dict[str, Any]:
    if isinstance(what, str):
        return {what: {"schema": {"type": "string", "format": "binary"}}}
    return {"application/json": {"schema": schema_of[what]}}
