"""The files of the page, what they may load, and the settings that its form is made of."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from mixrag import RAG, Settings
from mixrag.config.schema import settings_of
from mixrag.server.page.routes import page_files
from mixrag.server.page.settings import FIRST, form_of


def test_the_page_loads_only_files_that_are_there(client: TestClient) -> None:
    asked, seen = ["/"], set[str]()
    while asked:
        path = asked.pop()
        found = client.get(path)
        assert found.status_code == 200, path
        seen.add(path)
        named = re.findall(r'(?:src|href)="(/page/[^"]+)"', found.text)
        named += [f"/page/{name}" for name in re.findall(r'from "\./([^"]+)"', found.text)]
        asked += [each for each in named if each not in seen]
    assert seen == {"/", *(f"/page/{name}" for name in page_files() if name != "index.html")}


def test_no_file_names_another_host_or_has_an_inline_script_or_style(client: TestClient) -> None:
    for name, file in page_files().items():
        text = file.content.decode()
        hosts = set(re.findall(r"https?://[^\s\"')]+", text))
        assert hosts <= {"http://www.w3.org/2000/svg"}, name
    page = client.get("/").text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)


def test_its_policy_allows_files_of_this_server_alone(client: TestClient) -> None:
    for path in ("/", "/page/app.js", "/page/style.css"):
        headers = client.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'self'" and policy["object-src"] == policy["base-uri"] == "'none'"
        assert policy["frame-ancestors"] == "'none'" and policy["trusted-types"] == "'none'"
        assert not {"script-src", "style-src", "img-src", "connect-src"} & policy.keys()
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "name", ["routes.py", "__init__.py", "%2e%2e", "%2e%2e%2froutes.py", "..%2Fsettings.py", ""]
)
def test_nothing_else_of_the_package_can_be_read(client: TestClient, name: str) -> None:
    assert client.get(f"/page/{name}").status_code == 404


def test_its_files_have_headers_to_ask_for_alone(client: TestClient) -> None:
    found = client.head("/page/app.js")
    assert (found.status_code, found.headers["etag"]) == (200, client.get("/page/app.js").headers["etag"])


def test_a_file_that_has_not_changed_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/page/style.css")
    again = client.get("/page/style.css", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get("/page/style.css", headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.content) == (200, first.content)


def test_the_settings_are_those_declared(client: TestClient) -> None:
    found = client.get("/v1/settings").json()
    declared = settings_of(Settings)
    names = [each["name"] for each in found["settings"]]
    assert names[: len(FIRST)] == list(FIRST) and sorted(names) == sorted(declared)
    for each in found["settings"]:
        assert each["help"] and declared[each["name"]].declared.help.replace("`", "") == each["help"]
        assert "](" not in each["more"] and "`" not in each["more"]


def test_their_values_are_those_in_force_for_a_model(client: TestClient, rag: RAG) -> None:
    def values(model: str) -> dict[str, object]:
        found = client.get("/v1/settings", params={"model": model}).json()
        assert found["presets"] == {"short": {"max_tokens": 1}}
        return {each["name"]: each["value"] for each in found["settings"]}

    assert values("demo")["max_tokens"] == 6 and values("demo:short")["max_tokens"] == 1
    assert values("demo")["decoder"] == "greedy"
    rag.settings = replace(rag.settings, where={"year": ">=2020"})
    assert values("demo")["where"] == {"year": ">=2020"}


def test_a_model_that_is_not_served_has_none(client: TestClient) -> None:
    assert client.get("/v1/settings", params={"model": "other"}).json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("k", {"type": "whole", "choices": ["all"], "optional": False, "least": 0, "most": None}),
        ("switch", {"type": "number", "choices": [], "optional": False, "least": 0, "most": 1}),
        ("abstain_below", {"type": "number", "choices": [], "optional": True, "least": 0, "most": 1}),
        ("switch_at", {"type": "choice", "choices": ["token", "sentence"], "optional": False}),
        ("decoder", {"type": "choice", "choices": ["greedy", "sample", "beam", "thorough", "fast"]}),
        ("typos", {"type": "truth", "choices": []}),
        ("where", {"type": "mapping", "choices": []}),
    ],
)
def test_a_form_knows_the_type_and_range_of_a_setting(name: str, form: dict[str, object]) -> None:
    found = form_of(settings_of(Settings)[name].kind)
    assert {key: found[key] for key in form} == form
