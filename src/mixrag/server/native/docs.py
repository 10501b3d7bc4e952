"""``/docs``: all endpoints on one page, made of /openapi.json; nothing comes from another host."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, StrictUndefined

router = APIRouter(prefix="/docs", include_in_schema=False)
METHODS = ("get", "post", "put", "patch", "delete")


@router.get("")
def docs_page(request: Request) -> HTMLResponse:
    """The page."""
    return HTMLResponse(_template().render(groups=groups_of(request.app.openapi()), address=str(request.base_url)))


@router.get("/style.css")
def docs_style() -> Response:
    """Its style."""
    return Response(_file("style.css"), media_type="text/css; charset=utf-8")


def groups_of(description: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Endpoints by their first tag, in the order of the description, as the page shows them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path, operations in description["paths"].items():
        for method in METHODS:
            if method in operations:
                operation = operations[method]
                tag = (operation.get("tags") or ["Other"])[0]
                found.setdefault(tag, []).append(_endpoint(path, method, operation, description))
    return found


def _endpoint(path: str, method: str, operation: dict[str, Any], description: dict[str, Any]) -> dict[str, Any]:
    return {
        "method": method.upper(),
        "path": path,
        "text": operation.get("description") or operation.get("summary", ""),
        "parameters": [
            {"name": each["name"], "text": each.get("description", ""), "required": each.get("required", False)}
            for each in operation.get("parameters", ())
        ],
        "request": operation.get("requestBody", {}).get("description", ""),
        "requests": _examples(operation.get("requestBody", {}).get("content", {}), description),
        "responses": _examples(operation.get("responses", {}).get("200", {}).get("content", {}), description),
    }


def _examples(content: dict[str, Any], description: dict[str, Any]) -> list[tuple[str, str]]:
    """A label and a text for each example of a body, of those of its schema where it has none of its own."""
    found = []
    for kind, each in content.items():
        named = {name: example["value"] for name, example in each.get("examples", {}).items()}
        if "example" in each:
            named[kind] = each["example"]
        name = each.get("schema", {}).get("$ref", "").rpartition("/")[2]
        schema = description.get("components", {}).get("schemas", {}).get(name, {})
        for number, example in enumerate(() if named else schema.get("examples", ()), start=1):
            named[f"example {number}"] = example
        found += [(label, _shown(example)) for label, example in named.items()]
    return found


def _shown(example: Any) -> str:
    return example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)


@cache
def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_file("page.html"))


def _file(name: str) -> str:
    return resources.files("mixrag.server.native").joinpath("docs_page", name).read_text(encoding="utf-8")
