"""What clients of every make may expect of the API: spellings, encodings, other origins, its description."""

import base64
import gzip
import json
import socket
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import structlog
import uvicorn
from serving_fakes import PHOTO
from starlette.testclient import TestClient

from captionloop.errors import ConfigurationError
from captionloop.ratings.api_keys import ApiKeyStore
from captionloop.serving.gateway import http_protocol, middleware
from captionloop.serving.gateway.http_protocol import PatientProtocol
from captionloop.serving.service_settings import Settings

pytestmark = pytest.mark.integration

URL = "/v1/captions"
PROBLEM = "application/problem+json"
PAGE = "https://app.example"
Gateway = Callable[..., TestClient]


@pytest.mark.parametrize(
    "spelling", ["application/json", "Application/JSON", "application/json ;charset=utf-8"]
)
def test_the_limit_of_a_body_does_not_hang_on_how_its_type_is_written(
    gateway: Gateway, spelling: str
) -> None:
    client = gateway(max_body_bytes=300_000)
    padded = PHOTO + bytes(299_000)  # within the limit, and its base64 beyond it
    body = b'{"image": "' + base64.b64encode(padded) + b'"}'
    assert client.post(URL, content=body, headers={"Content-Type": spelling}).status_code == 201
    refused = client.post(URL, content=body + bytes(100_000), headers={"Content-Type": spelling})
    assert refused.status_code == 413 and refused.headers["content-type"] == PROBLEM


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\\n", "\\r\\n", " "])
def test_base64_may_be_broken_into_lines(client: TestClient, line_end: str) -> None:
    lines = textwrap.wrap(base64.b64encode(PHOTO).decode(), 20)
    body = f'{{"image": "{line_end.join(lines)}{line_end}"}}'
    answer = client.post(URL, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 201, answer.text


def test_what_is_no_base64_is_still_refused(client: TestClient) -> None:
    for text in ("not base64!", "AAA", "=AAA"):
        answer = client.post(URL, json={"image": text})
        assert answer.status_code == 400 and answer.headers["content-type"] == PROBLEM


def form(disposition: str, photo: bytes = PHOTO) -> dict:
    body = b"--x\r\nContent-Disposition: " + disposition.encode() + b"\r\n\r\n" + photo + b"\r\n--x--\r\n"
    return {"content": body, "headers": {"Content-Type": "multipart/form-data; boundary=x"}}


def test_a_photo_in_a_form_needs_no_file_name(client: TestClient) -> None:
    assert client.post(URL, **form('form-data; name="image"')).status_code == 201
    assert client.post(URL, **form("form-data; name=image")).status_code == 201
    large = form('form-data; name="image"', PHOTO + bytes(100_000))
    assert client.post(URL, **large).status_code == 201


@pytest.mark.parametrize(
    ("disposition", "status", "kind"),
    [
        ('form-data; name="picture"', 422, "image-missing"),
        ("form-data", 400, "request-malformed"),
        ('form-data; name="picture"; filename="a.png"', 422, "image-missing"),
    ],
)
def test_a_form_without_the_photo_is_a_problem(
    client: TestClient, disposition: str, status: int, kind: str
) -> None:
    answer = client.post(URL, **form(disposition))
    assert answer.status_code == status and answer.json()["type"].endswith(kind)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "gzip, gzip"])
@pytest.mark.parametrize("way", ["photo", "rating"])
def test_a_compressed_body_is_refused_by_name(client: TestClient, encoding: str, way: str) -> None:
    made = client.post(URL, content=PHOTO, headers={"Content-Type": "image/png"}).json()
    headers = {"Content-Encoding": encoding}
    if way == "photo":
        sent = client.post(
            URL, content=gzip.compress(PHOTO), headers={**headers, "Content-Type": "image/png"}
        )
    else:
        url = f"{URL}/{made['caption_id']}/rating"
        sent = client.put(url, content=gzip.compress(b'{"stars": 4}'), headers=headers)
    assert sent.status_code == 415 and "Content-Encoding" in sent.json()["detail"]
    assert sent.headers["accept-encoding"] == "identity" and sent.headers["content-type"] == PROBLEM


def test_the_description_says_how_a_key_is_sent(client: TestClient) -> None:
    description = client.get("/openapi.json").json()
    schemes = description["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert (schemes["header"]["in"], schemes["header"]["name"]) == ("header", "X-API-Key")
    for path, operations in description["paths"].items():
        for operation in operations.values():
            assert (operation.get("security") == [{"bearer": []}, {"header": []}, {}]) is path.startswith(
                "/v1/"
            )


def test_where_nobody_is_anonymous_the_description_asks_for_a_key(gateway: Gateway) -> None:
    operation = gateway(anonymous=False).get("/openapi.json").json()["paths"][URL]["post"]
    assert operation["security"] == [{"bearer": []}, {"header": []}]


def test_pages_of_other_origins_are_let_in_only_by_setting(gateway: Gateway) -> None:
    client = gateway(cors_origins=f"{PAGE}, https://b.example")
    sent = {"Origin": PAGE, "Content-Type": "image/png"}
    made = client.post(URL, content=PHOTO, headers=sent)
    assert made.status_code == 201 and made.headers["access-control-allow-origin"] == PAGE
    assert "Location" in made.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in made.headers  # keys yes, other people's cookies no
    other = client.post(URL, content=PHOTO, headers={**sent, "Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_without_the_setting_no_origin_is_let_in(client: TestClient) -> None:
    answer = client.get("/v1/model", headers={"Origin": PAGE})
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_errors_of_every_layer_can_be_read_by_a_page_of_an_allowed_origin(gateway: Gateway) -> None:
    client = gateway(cors_origins=PAGE, max_body_bytes=1000)
    origin = {"Origin": PAGE, "Content-Type": "image/png"}
    answers = [
        client.post(URL, content=bytes(100_000), headers=origin),  # the edge
        client.post(URL, content=PHOTO, headers={**origin, "Content-Encoding": "gzip"}),
        client.get("/v1/nothing", headers=origin),  # the router
        client.patch(URL, headers=origin),
        client.post(URL, content=b"no photo", headers=origin),  # the route
        client.get("/v1/model", headers={**origin, "X-API-Key": "clk_wrong"}),
    ]
    assert [answer.status_code for answer in answers] == [413, 415, 404, 405, 422, 401]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["content-type"] == PROBLEM


def test_a_preflight_is_answered(gateway: Gateway) -> None:
    client = gateway(cors_origins=PAGE, anonymous=False)
    asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}
    allowed = client.options(f"{URL}/a/rating", headers={"Origin": PAGE, **asked})
    assert allowed.status_code == 200 and "PUT" in allowed.headers["access-control-allow-methods"]
    refused = client.options(URL, headers={"Origin": "https://evil.example", **asked})
    assert refused.status_code == 403 and refused.json()["type"].endswith("origin-refused")
    assert "access-control-allow-origin" not in refused.headers and refused.headers["x-request-id"]


@pytest.mark.parametrize(
    "origins", ["app.example", "https://app.example/", "https://*.example", "*, http://a"]
)
def test_origins_that_can_never_match_are_refused_at_the_start(origins: str) -> None:
    with pytest.raises(ConfigurationError, match="CAPTIONLOOP_CORS_ORIGINS"):
        Settings.from_environment({"CAPTIONLOOP_CORS_ORIGINS": origins})


def test_the_access_log_names_the_key_and_not_its_secret(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another test may have configured the logs, whose loggers stay as they were when first used.
    monkeypatch.setattr(middleware, "logger", structlog.get_logger())
    record, secret = ApiKeyStore(client.app.state.services.store).create("test", ["caption"])
    with structlog.testing.capture_logs() as lines:
        client.get("/v1/model", headers={"Authorization": f"Bearer {secret}"})
        client.get("/v1/model")
        client.get("/v1/model", headers={"Authorization": "Bearer clk_000000000000_" + "A" * 43})
    requests = [line for line in lines if line["event"] == "request"]
    assert [line.get("key") for line in requests] == [record.key_id, None, None]
    assert secret not in str(lines)


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01 hello?\r\n\r\n", b"CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example\r\n\r\n"],
    ids=["no HTTP", "for a proxy"],
)
def test_what_is_no_request_to_us_gets_a_problem_document(sent: bytes) -> None:
    head, body = told_by_uvicorn(sent)
    assert head.startswith(b"HTTP/1.1 400 ") and PROBLEM.encode() in head
    problem = json.loads(body)
    assert problem["type"].endswith("request-malformed") and problem["request_id"].encode() in head


def test_an_offer_of_a_websocket_is_an_ordinary_request() -> None:
    offer = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    head, body = told_by_uvicorn(b"GET /v1/model HTTP/1.1\r\nHost: x\r\n" + offer + key + b"\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and body == b"http GET /v1/model"


HEAD = b"POST /v1/captions HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = b"a" * 300_000


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + LONG + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        HEAD + b"Cookie: " + LONG + b"\r\n\r\n",
        HEAD + b"".join(b"X-%d: y\r\n" % number for number in range(30_000)) + b"\r\n",
        HEAD + b"Cookie: " + LONG,
        b"\r\n" * 150_000,
        CHUNKED + b"1;" + LONG,
        CHUNKED + b"1\r\nx\r\n0\r\nX-Trailer: " + LONG,
    ],
    ids=["path", "header", "headers", "header without end", "empty lines", "extension of a chunk", "trailer"],
)
def test_what_is_no_body_is_not_kept_beyond_64_kilobytes(sent: bytes) -> None:
    head, body = told_by_uvicorn(sent)
    assert b"HTTP/1.1 431 Request Header Fields Too Large" in head + body and PROBLEM.encode() in head + body


def test_a_body_in_small_chunks_is_of_any_length() -> None:
    head, body = told_by_uvicorn(CHUNKED + b"1;x\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and body == b"http POST /v1/captions"


HALF = b"GET / HTTP/1.1\r\nHost: "


@pytest.mark.parametrize(
    ("begun", "before"), [(b"", 0), (b"\r\n", 0), (HALF, 0), (b"\r\n", 1), (HALF, 1)], ids=str
)
def test_a_request_that_is_never_finished_is_ended(
    begun: bytes, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first on a connection, and any other; a byte now and then does not help."""
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.5)
    with uvicorn_at(stay) as address, socket.create_connection(address, timeout=0.2) as connection:
        for _ in range(before):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(begun)
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            try:
                connection.sendall(begun[-1:])
                if connection.recv(65536) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert time.monotonic() < deadline


def test_an_answer_that_nobody_reads_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "READ_SECONDS", 0.5)
    ended, lost = threading.Event(), PatientProtocol.connection_lost
    monkeypatch.setattr(
        PatientProtocol, "connection_lost", lambda self, error: (lost(self, error), ended.set())
    )
    with uvicorn_at(flood) as address, socket.create_connection(address, timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ended.wait(30)
        received = 0
        with suppress(ConnectionError):
            while more := connection.recv(1 << 20):
                received += len(more)
        assert received < 50 << 20, "half of it was never sent"


async def tell_what_came(scope: dict, receive: Callable, send: Callable) -> None:
    """Once all of it has come."""
    while (await receive()).get("more_body"):
        pass
    request_line = f"{scope['type']} {scope['method']} {scope['path']}".encode()
    headers = [(b"content-length", str(len(request_line)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": request_line})


async def stay(scope: dict, receive: Callable, send: Callable) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def flood(scope: dict, receive: Callable, send: Callable) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(100):
        await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})


def told_by_uvicorn(sent: bytes) -> tuple[bytes, bytes]:
    """Head and body of what a server with our protocol answers."""
    answer = bytearray()
    with uvicorn_at(tell_what_came) as address, socket.create_connection(address, timeout=5) as connection:
        with suppress(ConnectionError):  # it may have answered before all of it was sent
            connection.sendall(sent)
        with suppress(ConnectionError):
            while more := connection.recv(65536):
                answer += more
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    return head, body


@contextmanager
def uvicorn_at(app: Callable) -> Iterator[tuple[str, int]]:
    """Where an application is served with our protocol."""
    config = uvicorn.Config(app, port=0, http=PatientProtocol, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        thread.join(5)
