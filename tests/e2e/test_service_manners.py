"""The manners of the running service: who may do what and is written down, and how every layer says no."""

import base64
import gzip
import json
import os
import re
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_process import PAGE_ELSEWHERE, ServiceProcess, photo
from shared_storage import until

from captionloop.ratings.api_keys import ApiKeyStore
from captionloop.ratings.rating_store import RatingsStore

pytestmark = [pytest.mark.e2e, pytest.mark.service]

URL = "/v1/captions"
RATING = f"{URL}/kq3V0cYJmS0xw9ZyqkQJZw/rating"
SENT = {"Content-Type": "image/jpeg"}
PROBLEM = "application/problem+json"


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as opened:
        yield opened


@pytest.fixture(scope="module")
def key(service: ServiceProcess) -> Callable[..., tuple[str, str]]:
    """Makes keys: the id, and the key itself."""

    def make(*scopes: str, lifetime: timedelta | None = None) -> tuple[str, str]:
        store = RatingsStore(f"sqlite:///{service.state / 'ratings.db'}")
        record, secret = ApiKeyStore(store).create("manners", scopes, lifetime)
        store.close()
        return record.key_id, secret

    return make


def lines(service: ServiceProcess) -> list[dict[str, Any]]:
    """The service's log."""
    return [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]


def test_the_description_says_how_a_key_is_sent(client: httpx.Client) -> None:
    description = client.get("/openapi.json").json()
    schemes = description["components"]["securitySchemes"].values()
    assert {scheme["type"] for scheme in schemes} == {"http", "apiKey"}
    assert description["paths"][URL]["post"]["security"]


def test_a_request_that_is_sent_again_makes_no_second_caption(client: httpx.Client) -> None:
    headers = SENT | {"Idempotency-Key": "once"}
    first, again = (client.post(URL, content=photo(1), headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["caption_id"] == again.json()["caption_id"]
    assert client.post(URL, content=photo(2), headers=headers).status_code == 422
    assert client.delete(first.headers["location"]).status_code == 204
    assert client.post(URL, content=photo(1), headers=headers).status_code == 410


def test_a_key_ends_when_it_should_and_shows_when_it_was_used(
    service: ServiceProcess, client: httpx.Client, key: Callable[..., tuple[str, str]]
) -> None:
    key_id, secret = key("caption", lifetime=timedelta(seconds=4))
    client.headers["Authorization"] = f"Bearer {secret}"
    assert client.post(URL, content=photo(), headers=SENT).status_code == 201
    time.sleep(4.2)
    ended = client.post(URL, content=photo(), headers=SENT)
    assert (ended.status_code, ended.json()["type"]) == (401, "urn:captionloop:problem:key-expired")
    program = Path(sys.executable).with_name("captionloop")
    output = subprocess.run(
        [program, "keys", "list"], env={**os.environ, "CAPTIONLOOP_STATE": str(service.state)},
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    (mine,) = [line for line in output.splitlines() if line.startswith(key_id)]
    assert "expired" in mine and "never used" not in mine


def test_the_log_names_the_key_and_what_an_administrator_did_with_it(
    service: ServiceProcess, client: httpx.Client, key: Callable[..., tuple[str, str]]
) -> None:
    made = client.post(URL, content=photo(), headers=SENT).headers["location"]
    key_id, secret = key("admin")
    assert client.delete(made, headers={"X-API-Key": secret}).status_code == 204

    def asked() -> list[dict[str, Any]]:
        return [each for each in lines(service) if each["event"] == "request" and each.get("key") == key_id]

    until(lambda: bool(asked()), 10, "a line about the request, which is written once it is answered")
    (deed,) = [
        line for line in lines(service) if line["event"] == "audit" and line["actor"] == f"key:{key_id}"
    ]
    assert (deed["action"], deed["object"]) == ("caption.erase", made.rsplit("/", 1)[-1])
    assert secret not in service.log.read_text()


def test_a_page_of_another_origin_may_call_where_the_setting_names_it(
    client: httpx.Client, key: Callable[..., tuple[str, str]]
) -> None:
    _, secret = key("caption")
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for origin, is_in in ((PAGE_ELSEWHERE, True), ("https://evil.example", False), ("null", False)):
        preflight = client.options(URL, headers={"Origin": origin, **asks})
        called = client.post(
            URL, content=photo(), headers=SENT | {"Origin": origin, "Authorization": f"Bearer {secret}"}
        )
        refused = client.get("/v1/nothing", headers={"Origin": origin})
        for answer in (preflight, called, refused):
            assert (answer.headers.get("access-control-allow-origin") == origin) is is_in, (origin, answer)
            assert "access-control-allow-credentials" not in answer.headers
        assert (preflight.status_code == 200) is is_in


def test_a_photo_may_come_as_clients_of_every_make_send_it(client: httpx.Client) -> None:
    plain = base64.b64encode(photo()).decode()
    for text in (plain, "\r\n".join(textwrap.wrap(plain, 76)), "data:image/jpeg;base64," + plain):
        assert client.post(URL, json={"image": text}).status_code == 201
    # As PHP and .NET write strings.
    for escaped in (plain.replace("/", "\\/"), plain.replace("+", "\\u002B").replace("/", "\\u002F")):
        body = b'{"image": "' + escaped.encode() + b'"}'
        assert client.post(URL, content=body, headers={"Content-Type": "Application/JSON"}).status_code == 201
    form = b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + photo() + b"\r\n--x--\r\n"
    sent = client.post(URL, content=form, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert sent.status_code == 201


LARGE = b'{"image": "' + b"A" * 15_000_000 + b'"}'
REFUSALS: dict[str, tuple[int, str, str, dict[str, Any]]] = {
    "no JSON": (400, "POST", URL, {"content": b"{", "headers": {"Content-Type": "application/json"}}),
    "no form": (400, "POST", URL, {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}),
    "wrong key": (401, "GET", "/v1/model", {"headers": {"X-API-Key": "clk_000000000000_" + "a" * 43}}),
    "no path": (404, "GET", "/v1/nothing", {}),
    "no file": (404, "GET", "/nothing.png", {}),
    "no file at all": (404, "GET", "/a%00b.png", {}),
    "no such file": (404, "GET", "/..%2f..%2f..%2fetc/passwd.txt", {}),
    "name too long": (404, "GET", f"/{'a' * 5000}.png", {}),
    "wrong method": (405, "PATCH", URL, {}),
    "too large": (413, "POST", URL, {"content": bytes(11_000_000), "headers": SENT}),
    "too large as JSON": (
        413, "POST", URL, {"content": LARGE, "headers": {"Content-Type": "Application/JSON; charset=UTF-8"}},
    ),
    "too large to rate": (413, "PUT", RATING, {"json": {"comment": "x" * 70_000}}),
    "compressed": (
        415, "POST", URL, {"content": gzip.compress(photo()), "headers": SENT | {"Content-Encoding": "gzip"}},
    ),
    "no photo": (422, "POST", URL, {"content": b"x" * 100, "headers": SENT}),
    "nested": (400, "PUT", RATING, {
        "content": b"[" * 60_000, "headers": {"Content-Type": "application/json"}}),
    "no days": (422, "GET", "/v1/statistics?days=x", {}),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSALS)
def test_every_layer_says_no_with_a_problem_document(client: httpx.Client, what: str) -> None:
    status, method, path, request = REFUSALS[what]
    answer = client.request(method, path, **request)
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text[:300]
    problem = answer.json()
    assert problem["status"] == status and problem["type"].startswith("urn:captionloop:problem:")
    assert problem["request_id"] == answer.headers["x-request-id"]
    if what == "compressed":
        assert "compress" in problem["detail"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01 hello?\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /v1/captions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"a" * 100_000 + b"\r\n\r\n", 431),
    ],
    ids=["TLS", "two lengths", "no length", "for a proxy", "HTTP/2", "long path", "long header"],
)
def test_so_does_the_parser(service: ServiceProcess, sent: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(sent)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 %d " % status) and PROBLEM.encode() in answer, answer[:200]


POSTED = b"POST /v1/captions HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
OLD = b"POST /v1/captions HTTP/1.0\r\nContent-Type: image/jpeg\r\n"
CLOSE = b"Connection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "body", "expected"),
    [
        (b"GET /livez HTTP/1.0\r\n\r\n", b"", [b"200"]),
        (b"GET http://x/livez HTTP/1.1\r\nHost: x\r\n" + CLOSE, b"", [b"200"]),
        (b"OPTIONS /v1/captions HTTP/1.1\r\nHost: x\r\n" + CLOSE, b"", [b"405"]),
        (OLD + b"Content-Length: %d\r\n\r\n", photo(), [b"201"]),
        (POSTED + b"Content-Length: %d\r\nExpect: 100-continue\r\n" + CLOSE, photo(), [b"100", b"201"]),
        (POSTED + b"Content-Length: 60000000\r\nExpect: 100-continue\r\n" + CLOSE, b"", [b"413"]),
    ],
    ids=["HTTP/1.0", "as to a proxy", "options", "a photo by HTTP/1.0", "asks first", "asks first, in vain"],
)  # fmt: skip
def test_older_and_politer_clients_are_understood(
    service: ServiceProcess, sent: bytes, body: bytes, expected: list[bytes]
) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(sent.replace(b"%d", str(len(body)).encode()))
        answer = b""
        if expected[0] == b"100":
            answer = connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        answer += b"".join(iter(lambda: connection.recv(65_536), b""))
    assert re.findall(rb"HTTP/1\.1 (\d+) ", answer) == expected, answer[:300]


CHUNKED = POSTED + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Trailer: "


def test_headers_without_end_take_no_memory(service: ServiceProcess) -> None:
    """Whoever sends them is sent away; the parser would keep whatever comes until the line ends."""
    before = service.memory()
    for head in (b"GET / HTTP/1.1\r\nCookie: ", b"GET /", CHUNKED):
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
            sent = 0
            try:
                connection.sendall(head)
                while sent < 300_000_000:
                    connection.sendall(bytes([97]) * 1_000_000)
                    sent += 1_000_000
            except OSError:
                pass
            assert sent < 20_000_000, head
    assert service.memory() - before < 60_000_000
