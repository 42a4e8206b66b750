"""Greedy, slow, impatient and odd callers, at one service: they harm nobody but themselves.

Callers are told apart by their addresses, of which the loopback network has many.
"""

import base64
import http.client
import json
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from service_process import ServiceProcess, photo

from captionloop.client import CaptionClient, ServiceError

pytestmark = [pytest.mark.e2e, pytest.mark.service, pytest.mark.timeout(600)]

PER_MINUTE = 60
HEAD = b"POST /v1/captions HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
PAGES = ["/", "/livez", "/readyz", "/docs", "/openapi.json", "/v1/model", "/metrics"]
OFFER = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\n"
)


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory, bundles: list[Path]) -> Iterator[ServiceProcess]:
    """A service with the limits that it has by default."""
    running = ServiceProcess(
        tmp_path_factory.mktemp("callers"),
        CAPTIONLOOP_MODEL=str(bundles[0]),
        CAPTIONLOOP_ANONYMOUS_CAPTIONS_PER_MINUTE=str(PER_MINUTE),
    )
    try:
        yield running.wait_until_ready()
    finally:
        running.kill()


def caller(service: ServiceProcess, address: str) -> httpx.Client:
    """Somebody at `address`."""
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(base_url=service.url, transport=transport, timeout=60)


def metric(service: ServiceProcess, name: str) -> float:
    """The sum of a counter over its labels."""
    text = httpx.get(f"{service.url}/metrics", timeout=30).text
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


FEEL = """
import http.client, sys, threading, time

over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
line = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
told = []
while not over.is_set():
    began = time.perf_counter()
    line.request("GET", "/livez")
    answer = line.getresponse()
    answer.read()
    assert answer.status == 200
    told.append(time.perf_counter() - began)
    time.sleep(0.01)
print(*told)
"""


class Pulse:
    """How long `/livez` takes while the block runs, felt by a process that does nothing else."""

    def __init__(self, service: ServiceProcess) -> None:
        self.seconds: list[float] = []
        self._command = [sys.executable, "-c", FEEL, str(service.port)]

    def __enter__(self) -> "Pulse":
        self._feeling = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        figures, _nothing = self._feeling.communicate(timeout=60)
        assert self._feeling.returncode == 0
        self.seconds = [float(each) for each in figures.split()]

    def percentile(self, percent: int) -> float:
        return statistics.quantiles(self.seconds, n=100)[percent - 1]

    def __str__(self) -> str:
        figures = (
            statistics.median(self.seconds),
            self.percentile(95),
            self.percentile(99),
            max(self.seconds),
        )
        median, most, nearly_all, worst = (f"{1000 * each:.1f}" for each in figures)
        return f"median {median} ms, 95 % {most}, 99 % {nearly_all}, worst {worst}, of {len(self.seconds)}"


@pytest.mark.alone
def test_bodies_of_a_million_lists_hold_up_nobody(limited: ServiceProcess) -> None:
    bodies = [
        b'{"image":[' + b"[]," * 4_300_000 + b"[]]}",
        b'{"image":' + b'{"a":' * 2_500_000,
        b'{"image":[' + b"1," * 6_000_000 + b"1]}",
        b'{"image":"", ' + b",".join(b'"a%d":1' % number for number in range(900_000)) + b"}",
        b'{"image":"' + b"A " * 6_400_000 + b'"}',
        b'{"image":"' + b"\\u0041" * 2_100_000 + b'"}',
    ]
    with Pulse(limited) as before:
        time.sleep(2)
    began, at_first = time.monotonic(), limited.memory()
    with Pulse(limited) as during, caller(limited, "127.0.1.1") as client:
        for turn in range(30):
            body = bodies[turn % len(bodies)]
            answer = client.post("/v1/captions", content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 422, answer.text
        seconds = time.monotonic() - began
    print(f"/livez: {during}, in {seconds:.0f} s; before: {before}")
    print(f"{(limited.memory() - at_first) / 1e6:.0f} MB more than before")
    assert statistics.median(during.seconds) < 0.05
    assert during.percentile(95) < 0.05 + before.percentile(95), str(during)


def test_a_photo_in_json_of_megabytes_is_still_taken(limited: ServiceProcess) -> None:
    large = photo(size=(320, 240)) + bytes(9_000_000)
    with caller(limited, "127.0.1.2") as client:
        body = {"image": "data:image/jpeg;base64," + base64.b64encode(large).decode()}
        assert client.post("/v1/captions", json=body).status_code == 201


def test_idle_sockets_from_two_addresses_starve_nobody(limited: ServiceProcess) -> None:
    head = HEAD + b"Content-Length: 9999999\r\n\r\n"
    idle = []
    for number in range(26):
        source = (f"127.0.2.{1 + number % 2}", 0)
        connection = socket.create_connection(("127.0.0.1", limited.port), source_address=source)
        connection.sendall(head + b"x" * 1000)
        idle.append(connection)
    began = time.monotonic()
    with caller(limited, "127.0.2.9") as honest:
        answers = [honest.post("/v1/captions", content=photo(seed), headers={"Content-Type": "image/jpeg"})
                for seed in range(30)]  # fmt: skip
    assert [answer.status_code for answer in answers] == [201] * 30
    ends = []
    for connection in idle:
        connection.settimeout(30)
        ends.append(connection.recv(65_536).split(b"\r\n")[0])
        connection.close()
    assert all(b" 408 " in end for end in ends), "what stands still is ended"
    print(f"the idle ones were ended after {time.monotonic() - began:.0f} s at the latest")


def test_one_caller_has_at_most_half_of_the_uploads(limited: ServiceProcess) -> None:
    head = (
        b"POST /v1/captions HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 99999\r\n\r\n"
    )
    idle = [
        socket.create_connection(("127.0.0.1", limited.port), source_address=("127.0.2.20", 0))
        for _ in range(40)
    ]
    try:
        for connection in idle:
            connection.sendall(head)
        time.sleep(1)
        refused = 0
        for connection in idle:
            connection.setblocking(False)
            try:
                refused += b" 503 " in connection.recv(65_536).split(b"\r\n")[0]
            except BlockingIOError:
                continue
        assert refused == 40 - 32
        with caller(limited, "127.0.2.21") as other:
            assert other.post("/v1/captions", files={"image": photo()}).status_code == 201
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.parametrize("pieces", [1, 7])
def test_an_offer_of_http2_is_ignored_and_the_body_is_read(limited: ServiceProcess, pieces: int) -> None:
    """As Java's client, Spring and `curl --http2` send it; the request may arrive in pieces."""
    data = photo()
    posted = (
        b"POST /v1/captions HTTP/1.1\r\nHost: x\r\n" + OFFER + b"Content-Type: image/jpeg\r\n"
        b"Content-Length: " + str(len(data)).encode() + b"\r\n\r\n" + data
    )
    with socket.create_connection(("127.0.0.1", limited.port), source_address=("127.0.3.1", 0)) as connection:
        made = _exchange(connection, posted, pieces)
        assert made.status == 201, made.read()
        caption_id = json.loads(made.read())["caption_id"]
        # The same connection again, as clients do; a rating goes the same way, in chunks.
        rating = b'{"stars": 4}'
        rated = _exchange(
            connection,
            f"PUT /v1/captions/{caption_id}/rating HTTP/1.1\r\nHost: x\r\n".encode() + OFFER
            + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"%x\r\n%s\r\n0\r\n\r\n" % (len(rating), rating),
            pieces,
        )  # fmt: skip
        assert rated.status == 200 and json.loads(rated.read())["stars"] == 4
        got = _exchange(connection, b"GET /livez HTTP/1.1\r\nHost: x\r\n" + OFFER + b"\r\n", pieces)
        assert got.status == 200


def _exchange(connection: socket.socket, request: bytes, pieces: int) -> http.client.HTTPResponse:
    size = -(-len(request) // pieces)
    for start in range(0, len(request), size):
        connection.sendall(request[start : start + size])
        if pieces > 1:
            time.sleep(0.05)
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer


def test_curl_may_ask_for_http2(limited: ServiceProcess, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs the Debian package curl")
    file = tmp_path / "photo.jpg"
    file.write_bytes(photo())
    ways = (["-F", f"image=@{file}"], ["-H", "Content-Type: image/jpeg", "--data-binary", f"@{file}"])
    for way in ways:
        command = ["curl", "--http2", "-s", "-o", "/dev/null", "-w", "%{http_code}", *way]
        done = subprocess.run(
            [*command, f"{limited.url}/v1/captions"], capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout == "201"


@pytest.mark.parametrize("path", [*PAGES, "/v1/statistics", "/v1/captions", "/docs/assets/swagger-ui.css"])
def test_whatever_can_be_got_can_be_asked_for_by_head(limited: ServiceProcess, path: str) -> None:
    with caller(limited, "127.0.4.1") as client:
        got, asked = client.get(path), client.head(path)
    assert (asked.status_code, asked.content) == (200, b"") and got.content
    assert asked.headers["content-type"] == got.headers["content-type"]


def test_refused_requests_count(limited: ServiceProcess) -> None:
    """Ratings that break a rule or are no JSON, and photos that are none, use the quota up like others."""
    url = "/v1/captions/kq3V0cYJmS0xw9ZyqkQJZw/rating"
    json_type = {"Content-Type": "application/json"}
    with caller(limited, "127.0.5.1") as client:
        broken = [client.put(url, json={"stars": 9}), client.put(url, content=b"{", headers=json_type)]
        assert [answer.status_code for answer in broken] == [422, 400]
        left = [int(answer.headers["ratelimit-remaining"]) for answer in broken]
        assert left == [10 * PER_MINUTE - 1, 10 * PER_MINUTE - 2]
        photos = [client.post("/v1/captions", json={"image": 1}) for _ in range(PER_MINUTE + 1)]
        assert [answer.status_code for answer in photos] == [422] * PER_MINUTE + [429]


def test_wrong_keys_are_limited_before_the_database_is_asked(limited: ServiceProcess) -> None:
    wrong = [f"clk_{number:012x}_{'a' * 43}" for number in range(80)]
    with caller(limited, "127.0.5.2") as client:
        statuses = [client.get("/v1/model", headers={"X-API-Key": key}).status_code for key in wrong]
        assert statuses == [401] * 60 + [429] * 20
        assert client.get("/v1/model").status_code == 200, "the address itself may still ask"


def test_a_rating_sent_forty_times_counts_once(limited: ServiceProcess) -> None:
    def counted() -> tuple[float, ...]:
        return tuple(metric(limited, f"captionloop_{what}_total") for what in ("ratings", "corrections"))

    with caller(limited, "127.0.6.1") as client:
        url = client.post("/v1/captions", files={"image": photo()}).headers["location"] + "/rating"
        before = (
            metric(limited, "captionloop_ratings_total"),
            metric(limited, "captionloop_corrections_total"),
        )
        for number in range(40):
            rating = {"stars": 1 + number % 2, "correction": "a red square" if number > 20 else None}
            assert client.put(url, json=rating).status_code == 200
    assert counted() == (before[0] + 1, before[1] + 1)


def test_anonymous_statistics_are_a_minute_old_at_most(limited: ServiceProcess) -> None:
    with caller(limited, "127.0.7.1") as client:
        first = client.get("/v1/statistics?days=7").json()
        assert client.post("/v1/captions", files={"image": photo()}).status_code == 201
        began = time.perf_counter()
        again = [client.get("/v1/statistics?days=7").json() for _ in range(100)]
        print(f"100 statistics in {time.perf_counter() - began:.2f} s")
        assert all(each == first for each in again)
        assert client.get("/v1/statistics?days=8").json()["totals"]["captions"] > first["totals"]["captions"]


def test_who_gives_up_is_taken_out_of_the_queue(limited: ServiceProcess) -> None:
    """Forty hang up at once; the model has done their photos only as far as it had begun with them."""
    made = metric(limited, "captionloop_captions_total")
    asked = metric(limited, "captionloop_batch_images_sum")
    data = [photo(seed, size=(4000, 3000)) for seed in range(4)]
    waiting = []
    for number in range(40):
        source = (f"127.0.8.{1 + number % 4}", 0)
        connection = socket.create_connection(("127.0.0.1", limited.port), source_address=source)
        body = data[number % 4]
        connection.sendall(HEAD + b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body)
        waiting.append(connection)
    for connection in waiting:
        connection.close()
    deadline = time.monotonic() + 30
    while metric(limited, "captionloop_captions_in_flight") > 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1)
    done = metric(limited, "captionloop_batch_images_sum") - asked
    print(f"of 40 that gave up, {done:.0f} were captioned")
    assert done < 30
    assert metric(limited, "captionloop_captions_total") - made <= done
    with caller(limited, "127.0.8.9") as client:
        assert client.post("/v1/captions", files={"image": photo()}).status_code == 201


def test_a_client_of_ours_does_not_multiply_what_is_refused(limited: ServiceProcess) -> None:
    """A hundred requests beyond the limit are hardly more than a hundred, and none is sooner than told."""
    with caller(limited, "127.0.9.1") as client:
        while client.post("/v1/captions", content=b"x").status_code != 429:
            pass
        refused = metric(limited, "captionloop_refused_total")
        transport = httpx.HTTPTransport(local_address="127.0.9.1")
        waits: list[float] = []
        with CaptionClient(limited.url, transport=transport) as eager, pytest.MonkeyPatch.context() as patch:
            patch.setattr("captionloop.client.time.sleep", waits.append)
            beyond = 0
            while beyond < 100:  # now and then the limit lets one through, whose photo then is none
                with pytest.raises(ServiceError, match=r"Too many requests|cannot be read") as error:
                    eager.caption(b"x")
                beyond += "Too many requests" in str(error.value)
        more = metric(limited, "captionloop_refused_total") - refused
    print(f"100 requests were asked {more:.0f} times")
    assert more <= 115
    assert all(seconds >= 1 for seconds in waits)
