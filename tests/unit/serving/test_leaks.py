"""Whatever fails, no secret and nothing that people sent is in any output: logs, answers, traces, metrics."""

import base64
import io
import itertools
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel
from serving_fakes import PHOTO, FakeModel
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from starlette.testclient import TestClient

from captionloop import images
from captionloop.photos import PhotoArchive
from captionloop.ratings.api_keys import ApiKeyStore
from captionloop.ratings.rating_store import RatingsStore
from captionloop.serving import logs, telemetry
from captionloop.serving.gateway import auth, caption_routes, service_routes, uploads
from captionloop.serving.gateway.app import build_services, create_app
from captionloop.serving.service_settings import Settings
from captionloop.serving.telemetry import trace_requests

pytestmark = pytest.mark.integration

PASSWORD = "hunter2-of-the-database"
WORDS = "my-sisters-secret-garden"
COMMENT = "call-555-0100"
COOKIE = "PlantedCookie" + "x" * 30
SECRET = "PlantedKeySecret" + "y" * 27
QUERY = "planted-in-the-query"
PIXELS = base64.b64encode(PHOTO).decode()
PLANTED = (PASSWORD, WORDS, COMMENT, COOKIE, SECRET, QUERY, PIXELS[16:60], repr(PHOTO)[60:110])
ROUNDS = 2
"""Each route meets several kinds of error."""


class _Held(BaseModel):
    value: int


def _quoting() -> list[Exception]:
    """Errors of the kinds that libraries raise, which quote what they were given."""
    quoted = f"{PASSWORD} {WORDS} {COMMENT} {COOKIE} {SECRET} {PHOTO!r} {PIXELS}"
    try:
        _Held.model_validate({"value": quoted})
    except ValueError as invalid:
        found: list[Exception] = [invalid]
    return [
        *found,
        RuntimeError(quoted),
        KeyError(quoted),
        OSError(5, quoted, quoted),
        OperationalError(quoted, {"words": quoted}, Exception(f"postgresql://u:{PASSWORD}@db/x is away")),
        IntegrityError(quoted, {"words": quoted}, Exception(f"duplicate key\nDETAIL: ({quoted})")),
        ProgrammingError(quoted, {"words": quoted}, Exception(quoted)),
        UnicodeEncodeError("utf-8", quoted, 0, 1, quoted),
    ]


def _raising() -> Callable[..., object]:
    """Raises another of these errors at each call."""
    kinds = itertools.cycle(_quoting())

    def fail(*arguments: object, **named: object) -> object:
        password, words, cookie = PASSWORD, WORDS, COOKIE  # locals, which a log must not show either
        raise next(kinds) from ValueError(password + words + cookie + str(arguments) + str(named))

    return fail


LAYERS: dict[str, tuple[object, str]] = {
    "model": (FakeModel, "caption"),
    "decoding": (images.Photo, "squares"),
    "photo's header": (uploads, "open_photo"),
    "archive write": (PhotoArchive, "write"),
    "archive's file": (Path, "write_bytes"),
    "archive erase": (PhotoArchive, "erase"),
    "write of a caption": (RatingsStore, "record"),
    "write of a rating": (RatingsStore, "rate"),
    "erasure": (RatingsStore, "erase"),
    "read of a caption": (RatingsStore, "find"),
    "read of a rating": (RatingsStore, "rating"),
    "sign of life": (RatingsStore, "check"),
    "keys": (ApiKeyStore, "_find"),
    "limits": (auth, "_hit"),
    "upload": (caption_routes, "sent_photo"),
    "statistics": (service_routes, "statistics"),
    "metrics": (telemetry, "generate_latest"),
}


@pytest.fixture(scope="module")
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def client(tmp_path: Path, spans: InMemorySpanExporter, log: io.StringIO) -> Iterator[TestClient]:
    """A gateway that logs and traces as the real one does, but for where the log goes."""
    root, raising = logging.getLogger(), logging.raiseExceptions
    before = root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook
    logs.configure_logs("DEBUG", "gateway")
    handler = root.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(log)
    settings = Settings(state=tmp_path, rate_limit_storage=f"async+memory://u:{PASSWORD}@x")
    app = create_app(settings)
    trace_requests(app, "test", spans)
    app.state.services = build_services(settings, FakeModel())
    with TestClient(app, raise_server_exceptions=False) as opened:
        while not app.state.services.model.latest.ready:
            opened.get("/livez")
        yield opened
    logging.captureWarnings(False)
    logging.raiseExceptions = raising
    root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook = before


def _every_route(client: TestClient, made: str) -> Iterator[str]:
    """Asks each route, with secrets in each request; gives all answers but one's own captions and ratings."""
    mine = {"Cookie": f"captionloop_rater={COOKIE}"}
    key = {**mine, "Authorization": f"Bearer clk_000000000000_{SECRET}"}
    rating = {"stars": 2, "correction": WORDS, "comment": COMMENT}
    asked = {"key": SECRET, "q": QUERY}
    for answer in (
        client.post("/v1/captions", content=PHOTO, headers={**mine, "Content-Type": "image/png"}),
        client.post("/v1/captions", json={"image": PIXELS}, headers=mine, params=asked),
        client.post("/v1/captions", json={"image": [PIXELS, WORDS]}, headers=mine),
        client.post("/v1/captions", files={"image": (WORDS, PHOTO)}, headers=mine),
        client.post("/v1/captions", content=PHOTO, headers=key),
        client.put(f"/v1/captions/{made}/rating", json=rating, headers=mine),
        client.put(f"/v1/captions/{made}/rating", json={"stars": WORDS}, headers=mine),
        client.put(f"/v1/captions/{made}/rating", content=WORDS, headers=mine),
        client.put(f"/v1/captions/{made}/rating", json=rating, headers=key),
        client.get(f"/v1/captions/{made}", headers=mine, params=asked),
        client.get(f"/v1/captions/{made}", headers=key),
        client.get("/v1/model", headers=mine),
        client.get("/v1/statistics", headers=mine, params={"days": WORDS}),
        client.get("/v1/statistics", headers=mine),
        client.get("/livez", headers=mine),
        client.get("/readyz", headers=mine),
        client.get("/metrics", headers=mine),
        client.get("/openapi.json", headers=mine),
        client.get("/docs", headers=mine),
        client.delete(f"/v1/captions/{made}", headers=mine),
    ):
        if not answer.is_success or not answer.request.url.path.startswith("/v1/"):
            yield f"{dict(answer.headers)} {answer.text}"


@pytest.mark.parametrize("layer", LAYERS)
def test_every_route_failing_in_every_layer_tells_no_secret(
    layer: str,
    client: TestClient,
    spans: InMemorySpanExporter,
    log: io.StringIO,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner, name = LAYERS[layer]
    texts, fail = [], _raising()
    headers = {"Cookie": f"captionloop_rater={COOKIE}", "Content-Type": "image/png"}
    for _ in range(ROUNDS):
        answer = client.post("/v1/captions", content=PHOTO, headers=headers)
        assert answer.status_code == 201
        with monkeypatch.context() as broken:
            broken.setattr(owner, name, fail)
            texts += _every_route(client, answer.json()["caption_id"])
    texts.append(telemetry.exposition().decode())
    trace.get_tracer_provider().force_flush()  # type: ignore[attr-defined]
    assert spans.get_finished_spans(), "nothing was traced"
    texts += [span.to_json() for span in spans.get_finished_spans()]
    written = capfd.readouterr()
    assert '"service": "gateway"' in log.getvalue(), "nothing was logged"
    texts += [*log.getvalue().splitlines(), written.out, written.err]
    assert [each for each in texts if any(planted in each for planted in PLANTED)] == []


def test_what_nobody_caught_is_logged_without_its_words(
    client: TestClient, log: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise RuntimeError(WORDS)

    thread = threading.Thread(target=broken)
    thread.start()
    thread.join()
    warnings.warn(f"a warning\n{COMMENT}", UserWarning, stacklevel=1)
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: %s", PASSWORD)
    sys.excepthook(RuntimeError, RuntimeError(COOKIE), None)
    written = capfd.readouterr()
    output = log.getvalue() + written.out + written.err
    assert [planted for planted in PLANTED if planted in output] == []
    assert "a thread ended" in output and "never retrieved" in output and "the process ends" in output


def test_a_statement_that_fails_keeps_its_parameters(tmp_path: Path) -> None:
    store = RatingsStore(f"sqlite:///{tmp_path / 'ratings.db'}")
    with pytest.raises(OperationalError) as raised, store.reader.connect() as connection:
        connection.execute(text("SELECT * FROM nowhere WHERE a = :words"), {"words": WORDS})
    store.close()
    assert WORDS not in str(raised.value)


def test_settings_do_not_show_their_addresses() -> None:
    address = f"postgresql://u:{PASSWORD}@db/x"
    given = dict.fromkeys(("database", "photos", "registry", "model_server", "drift_report"), address)
    shown = Settings(**given, rate_limit_storage=address)
    assert PASSWORD not in f"{shown} {shown!r} {shown.model_dump()} {shown.model_dump_json()}"
    assert shown.database_url == address
