"""Keys, hosts and origins: who is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from probes import probed
from starlette.responses import Response
from starlette.routing import Mount

from mixrag.server.app import make_app
from mixrag.server.security.keys import KeyFile
from mixrag.server.security.policy import OPEN, OPEN_BELOW, Security
from mixrag.server.service import Service

Clients = Callable[..., TestClient]


@pytest.fixture
def clients(service: Service) -> Iterator[Clients]:
    """Makes clients of the probed application under some security."""
    with ExitStack() as stack:

        def made(security: Security | None = None, **given: object) -> TestClient:
            app = probed(service, security)
            found = TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False, **given)
            return stack.enter_context(found)

        yield made


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


def error(response: Response) -> tuple[int, str]:
    """Status and code; the shape is OpenAI's."""
    (found,) = response.json().values()
    assert set(found) == {"message", "type", "param", "code"}
    assert "\n" not in found["message"]
    return response.status_code, found["code"]


def test_no_route_is_open_unless_it_is_listed(service: Service, keys: KeyFile) -> None:
    """Over all routes of the application, whatever added them."""
    keys.add("alice")
    with TestClient(make_app(service, Security(keys=keys)), base_url="http://127.0.0.1") as client:
        seen = set()
        for context in iter_route_contexts(client.app.routes):
            path = context.path + "/x" if isinstance(context.original_route, Mount) else context.path
            path = path.replace("{", "").replace("}", "").replace(":path", "")
            for method in {"GET", "POST", *(getattr(context, "methods", None) or ())}:
                seen.add(path)
                found = client.request(method, path)
                listed = method in ("GET", "HEAD") and (path in OPEN or path.startswith(OPEN_BELOW))
                assert (found.status_code == 401) is not listed, (method, path)
        assert {"/openapi.json", "/v1/models"} <= seen


def test_a_key_is_sent_in_either_of_two_headers(clients: Clients, keys: KeyFile) -> None:
    key, client = keys.add("alice"), clients(Security(keys=keys))
    for headers in (
        {"Authorization": f"Bearer {key}"},
        {"Authorization": f"bearer  {key} "},
        {"X-Api-Key": key},
    ):
        assert client.get("/probe", headers=headers).json()["client"] == "alice"


def test_what_is_no_key_is_openais_error(clients: Clients, keys: KeyFile) -> None:
    key, client = keys.add("alice"), clients(Security(keys=keys))
    for headers in (
        {},
        {"Authorization": key},
        {"Authorization": f"Basic {key}"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {key}x"},
        {"Authorization": b"Bearer \xff\xfe"},
        {"Authorization": "Bearer " + "x" * 5000},
        {"X-Api-Key": ""},
        {"Authorization": "Bearer wrong", "X-Api-Key": key},
        [("Authorization", f"Bearer {key}"), ("Authorization", "Bearer wrong")],
        [("X-Api-Key", key), ("X-Api-Key", "wrong")],
    ):
        found = client.get("/probe", headers=headers)
        assert error(found) == (401, "invalid_api_key"), headers
        assert found.headers["www-authenticate"].startswith("Bearer")
        assert key not in found.text
    assert error(client.get(f"/probe?api_key={key}")) == (401, "invalid_api_key")
    assert error(client.post("/")) == (401, "invalid_api_key")


def test_paths_beside_an_open_one_are_not_open(clients: Clients, keys: KeyFile) -> None:
    keys.add("alice")
    client = clients(Security(keys=keys))
    for path in ("/health/", "/health/../probe", "/Health", "/page", "/openapi.json/", "/%2e/probe"):
        assert error(client.get(path)) == (401, "invalid_api_key"), path
    for path in ("/page/../probe", "/page/%2e%2e/probe"):
        assert client.get(path).status_code in (401, 404), path


def test_without_keys_the_client_is_its_address(clients: Clients) -> None:
    assert clients(client=("192.0.2.7", 1234)).get("/probe").json()["client"] == "192.0.2.7"


def test_the_description_says_which_routes_need_a_key(clients: Clients) -> None:
    found = clients().get("/openapi.json").json()
    assert found["paths"]["/v1/models"]["get"]["security"] == [{"API key": []}]
    assert "API key" in found["components"]["securitySchemes"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8080", "localhost:3000", "[::1]:8080", "rag.localhost"])
def test_own_names_are_answered(clients: Clients, host: str) -> None:
    assert clients().get("/probe", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "127.0.0.1:8080:1",
        "127.0.0.1/",
        "127.1",
        "192.0.2.7",
        "0.0.0.0",
        "2130706433",
        "[::1",
        "",
    ],
)
def test_other_names_are_not(clients: Clients, host: str) -> None:
    """A page whose name was made to point here names itself."""
    client = clients()
    for path in ("/probe", "/health", "/", "/nothing"):
        assert error(client.get(path, headers={"Host": host})) == (421, "unknown_host")


def test_two_hosts_or_none(clients: Clients) -> None:
    client = clients()
    assert error(client.get("/probe", headers=[("Host", "127.0.0.1"), ("Host", "127.0.0.1")]))[0] == 421


def test_a_name_that_is_given_is_answered(clients: Clients) -> None:
    client = clients(Security(hosts=frozenset({"rag.example.org"})))
    assert client.get("/probe", headers={"Host": "rag.EXAMPLE.org:443"}).status_code == 200
    assert client.get("/probe", headers={"Host": "www.rag.example.org"}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:8080"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_programs_and_the_own_page_may_change_things(clients: Clients, headers: dict[str, str]) -> None:
    assert clients().post("/probe", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000", "Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_forms_of_other_sites_are_refused(clients: Clients, headers: dict[str, str]) -> None:
    """A form needs no preflight request: multipart, text and URL-encoded bodies are sent at once."""
    client = clients()
    for path in ("/probe", "/v1/documents/probe"):
        assert error(client.post(path, headers=headers, files={"files": ("a.txt", b"x")})) == (
            403,
            "origin_not_allowed",
        )
    assert error(client.delete("/probe", headers=headers)) == (403, "origin_not_allowed")


def test_a_link_from_another_site_opens(clients: Clients) -> None:
    assert clients().get("/probe", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


def test_cors_is_closed(clients: Clients) -> None:
    headers = {"Origin": "https://chat.example.org"}
    client = clients()
    for found in (
        client.options("/probe", headers={**headers, **PREFLIGHT}),
        client.get("/probe", headers=headers),
    ):
        assert error(found) == (403, "origin_not_allowed")
        assert not [name for name in found.headers if name.startswith("access-control")]


def test_cors_opens_for_the_sites_that_are_given_and_keys_hold(clients: Clients, keys: KeyFile) -> None:
    key = keys.add("alice")
    client = clients(Security(keys=keys, origins=("https://chat.example.org",)))
    own = {"Origin": "https://chat.example.org"}
    asked = client.options("/probe", headers={**own, **PREFLIGHT})
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == "https://chat.example.org"
    assert "authorization" in asked.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in asked.headers
    refused = client.post("/probe", headers=own)
    assert error(refused) == (401, "invalid_api_key")
    assert refused.headers["access-control-allow-origin"] == "https://chat.example.org"
    assert client.post("/probe", headers={**own, "X-Api-Key": key}).status_code == 200
    other = client.options("/probe", headers={"Origin": "https://chat.example.org.evil.example", **PREFLIGHT})
    assert error(other) == (403, "origin_not_allowed")
