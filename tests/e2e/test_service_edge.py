"""The edge of the running service: whatever is sent, it answers rightly, stays small, and goes on."""

import io
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from PIL import Image
from service_process import ServiceProcess, photo

pytestmark = [pytest.mark.e2e, pytest.mark.service]

MB = 1_000_000
HEAD = b"POST /v1/captions HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"


@pytest.fixture(scope="module", autouse=True)
def stays_small_and_goes_on(service: ServiceProcess) -> Iterator[None]:
    """Around all the tests below: memory is flat, and the service still captions."""
    for seed in range(20):
        caption(service, photo(seed))
    before = service.memory()
    yield
    assert caption(service, photo()).status_code == 201
    increase = (service.memory() - before) / MB
    assert increase < 250, f"grew by {increase:.0f} MB"


def caption(
    service: ServiceProcess, data: bytes, content_type: str = "application/octet-stream"
) -> httpx.Response:
    headers = {"Content-Type": content_type}
    return httpx.post(f"{service.url}/v1/captions", content=data, headers=headers, timeout=60)


def png_header(width: int, height: int, depth: int = 1, rows: bytes | None = None) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    raw = rows if rows is not None else bytes(height * (1 + (width * depth + 7) // 8))
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raw, 9))
        + chunk(b"IEND", b"")
    )


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colours(width: int = 60, height: int = 40) -> Image.Image:
    pixels = np.random.default_rng(5).integers(0, 255, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def sixteen_bit() -> bytes:
    values = np.random.default_rng(5).integers(0, 65535, (40, 60), np.uint16)
    return saved(Image.fromarray(values), "PNG")


GOOD = {
    "animated GIF": saved(colours(), "GIF", save_all=True, append_images=[colours(), colours()]),
    "CMYK JPEG": saved(colours().convert("CMYK"), "JPEG"),
    "16-bit PNG": sixteen_bit(),
    "RGBA PNG": saved(colours().convert("RGBA"), "PNG"),
    "palette PNG with transparency": saved(colours().convert("P"), "PNG", transparency=3),
    "1 x 1 px": saved(colours(1, 1), "PNG"),
    "10000 x 1 px": saved(colours(10_000, 1), "PNG"),
    "progressive JPEG": saved(colours(), "JPEG", progressive=True),
    "WebP": saved(colours(), "WEBP"),
    "polyglot of JPEG and HTML": saved(colours(), "JPEG") + b"<html><script>alert(1)</script>",
}
BAD = {
    "text": b"this is no image" * 100,
    "HTML": b"<!doctype html><script>alert(1)</script>",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://example.com/x"/></svg>',
    "truncated JPEG": photo()[: len(photo()) // 2],
    "PNG without pixels": png_header(50, 50, rows=b""),
    "PDF": b"%PDF-1.7\n" + bytes(1000),
    "zip": b"PK\x03\x04" + bytes(1000),
    "TIFF": saved(colours(), "TIFF"),
    "JPEG header alone": photo()[:20],
}


@pytest.mark.named_use
@pytest.mark.parametrize("kind", GOOD)
def test_unusual_photos_are_captioned(service: ServiceProcess, kind: str) -> None:
    answer = caption(service, GOOD[kind])
    assert answer.status_code == 201, answer.text
    assert answer.json()["caption"]


@pytest.mark.named_use
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_photo_is_422(service: ServiceProcess, kind: str) -> None:
    answer = caption(service, BAD[kind])
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:captionloop:problem:image-unreadable"


@pytest.mark.named_use
def test_an_empty_body_is_422(service: ServiceProcess) -> None:
    assert caption(service, b"").json()["type"].endswith("image-missing")


@pytest.mark.named_use
def test_a_small_file_of_144_megapixels_is_refused_undecoded(service: ServiceProcess) -> None:
    bomb = png_header(12_000, 12_000)
    assert len(bomb) < 25_000
    answer = caption(service, bomb)
    assert answer.status_code == 422
    assert answer.json()["type"].endswith("image-too-large")


def test_a_wrong_content_type_does_not_matter_for_an_image(service: ServiceProcess) -> None:
    assert caption(service, GOOD["WebP"], "image/jpeg").status_code == 201


@pytest.mark.named_use
@pytest.mark.parametrize("content_type", ["text/plain", "", "video/mp4", "application/xml"])
def test_other_content_types_are_415(service: ServiceProcess, content_type: str) -> None:
    assert caption(service, photo(), content_type).status_code == 415


@pytest.mark.named_use
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"image": '),
        ("application/json", b'{"image": "not base64!"}'),
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"--y\r\nnonsense"),
        ("application/json", b"[" * 50_000),
    ],
)
def test_broken_bodies_are_400_or_422(service: ServiceProcess, content_type: str, body: bytes) -> None:
    assert caption(service, body, content_type).status_code in {400, 422}


def test_a_photo_with_exif_rotation_is_captioned_as_it_is_seen(service: ServiceProcess) -> None:
    upright = colours(60, 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = saved(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    as_stored, as_seen = caption(service, turned).json(), caption(service, saved(upright, "PNG")).json()
    assert as_stored["words"] == as_seen["words"]
    assert as_stored["image"] == as_seen["image"] == {"width": 60, "height": 40}


@pytest.mark.named_use
def test_60_mb_are_refused_before_they_are_read(service: ServiceProcess) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(HEAD + b"Content-Length: 60000000\r\n\r\n")
        answer = b""
        while b"body-too-large" not in answer and (more := connection.recv(65_536)):
            answer += more
    assert b" 413 " in answer.split(b"\r\n")[0]
    assert b"body-too-large" in answer


def test_60_mb_of_unannounced_length_are_dropped_as_they_come(service: ServiceProcess) -> None:
    before = peak = service.memory()

    def junk() -> Iterator[bytes]:
        nonlocal peak
        for _ in range(60):
            peak = max(peak, service.memory())
            yield bytes(MB)

    answer = httpx.post(
        f"{service.url}/v1/captions", content=junk(), headers={"Content-Type": "image/jpeg"}, timeout=60
    )
    assert answer.status_code == 413
    assert peak - before < 30 * MB, f"grew by {(peak - before) / MB:.0f} MB"


@pytest.mark.named_use
def test_a_slow_upload_is_408(service: ServiceProcess) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
        connection.settimeout(0.5)
        answer = b""
        for _ in range(40):
            try:
                answer = connection.recv(65_536)
                break
            except TimeoutError:
                connection.sendall(b"x")
    assert b" 408 " in answer.split(b"\r\n")[0]


HOSTILE = ["'; DROP TABLE ratings; --", "<img src=x onerror=alert(1)>", "{{7*7}}", "\u202egnirts", "a" * 500]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_kept_as_text_or_refused_in_every_field(service: ServiceProcess, text: str) -> None:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        made = client.post("/v1/captions", files={"image": (text, photo(), "image/jpeg")}).json()
        url = f"/v1/captions/{made['caption_id']}"
        rating = {"stars": 1, "correction": text, "comment": text}
        answer = client.put(f"{url}/rating", json=rating)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        kept = client.get(url).json()["rating"]
        assert (kept["correction"], kept["comment"]) == (text, text)
        header = text.encode()
        refusals = [
            client.put(f"{url}/rating", json={"stars": text}),
            client.put(f"{url}/rating", json={"stars": 1, text: text}),
            client.put(f"/v1/captions/{quote(text, safe='')}/rating", json={"stars": 1}),
            client.get(f"/v1/captions/{quote(text, safe='')}"),
            client.get("/v1/statistics", params={"days": text}),
            client.post("/v1/captions", json={"image": "~" + text}),
            client.post("/v1/captions", files={text: photo()}),
            client.get("/v1/model", headers={"X-API-Key": header}),
            client.get("/v1/model", headers={"Authorization": b"Bearer " + header}),
        ]
        assert [answer.status_code for answer in refusals] == [422, 422, 404, 404, 422, 400, 422, 401, 401]
        assert {answer.headers["content-type"] for answer in refusals} == {"application/problem+json"}
        odd = client.get(
            "/v1/model", headers={"X-Request-ID": header, "Cookie": b"captionloop_rater=" + header}
        )
        assert odd.status_code == 200
        assert odd.headers["x-request-id"] != text
    assert caption(service, photo()).status_code == 201, "and nothing was dropped"


@pytest.mark.named_use
@pytest.mark.parametrize(
    ("rating", "field"),
    [
        ({"stars": 6}, "stars"),
        ({"stars": 3, "correction": "x" * 10_000}, "correction"),
        ({"stars": 3, "comment": "x" * 10_000}, "comment"),
    ],
)
def test_a_rating_that_breaks_a_rule_is_422(service: ServiceProcess, rating: dict, field: str) -> None:
    made = caption(service, photo())
    answer = httpx.put(f"{service.url}{made.headers['location']}/rating", json=rating)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["field"] == field


def test_a_caption_that_was_never_served_cannot_be_rated(service: ServiceProcess) -> None:
    for made_up in ("kq3V0cYJmS0xw9ZyqkQJZw", "1"):
        answer = httpx.put(f"{service.url}/v1/captions/{made_up}/rating", json={"stars": 1})
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:captionloop:problem:not-found")


def test_an_id_that_is_a_path_is_no_address_of_the_api(service: ServiceProcess) -> None:
    answer = httpx.put(f"{service.url}/v1/captions/..%2f..%2fetc/rating", json={"stars": 1})
    # An encoded slash is a slash to the server: only the page answers there, and only to GET.
    assert (answer.status_code, answer.json()["type"]) == (405, "urn:captionloop:problem:method-not-allowed")


@pytest.mark.named_use
def test_another_persons_caption_is_404(service: ServiceProcess) -> None:
    made = caption(service, photo()).json()
    assert httpx.get(f"{service.url}/v1/captions/{made['caption_id']}").status_code == 404
    assert httpx.delete(f"{service.url}/v1/captions/{made['caption_id']}").status_code == 404


@pytest.mark.named_use
def test_nothing_of_bentoml_is_exposed(service: ServiceProcess) -> None:
    for path in ("/schema.json", "/healthz", "/docs.json", "/caption", "/describe"):
        assert httpx.get(service.url + path).headers["content-type"] != "application/json"
        assert httpx.post(service.url + path, content=b"").status_code in {404, 405}


def test_the_docs_load_nothing_from_elsewhere(service: ServiceProcess) -> None:
    page = httpx.get(f"{service.url}/docs").text
    assert "http://" not in page and "https://" not in page
    assert httpx.get(f"{service.url}/docs/assets/swagger-ui-bundle.js").status_code == 200


def test_schemathesis_finds_no_server_error(service: ServiceProcess) -> None:
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json", "--checks",
        "not_a_server_error", "--max-examples", "15", "--phases", "examples,coverage,fuzzing", "--seed", "1",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.named_use
def test_over_capacity_is_answered_at_once_and_it_recovers(service: ServiceProcess) -> None:
    """Sixty uploads that take their time hold all places; the next caller is told when to come again."""
    head = HEAD + b"Content-Length: 1000\r\n\r\n"
    waiting = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(60)]
    try:
        for connection in waiting:
            connection.sendall(head)
        time.sleep(0.5)
        refused = caption(service, photo())
        assert refused.status_code == 503
        assert refused.json()["type"].endswith("overloaded")
        assert int(refused.headers["retry-after"]) >= 1
    finally:
        for connection in waiting:
            connection.close()
    deadline = time.monotonic() + 30
    while caption(service, photo()).status_code != 201:
        assert time.monotonic() < deadline
        time.sleep(0.2)
