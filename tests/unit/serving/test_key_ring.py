"""API keys that end, when they were used last, and what administrators do with theirs."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
import structlog
from serving_fakes import PHOTO
from sqlalchemy import event
from starlette.testclient import TestClient

from captionloop.ratings import api_keys
from captionloop.ratings.api_keys import ApiKeyStore
from captionloop.ratings.rating_tables import now

pytestmark = pytest.mark.integration

URL = "/v1/captions"
Gateway = Callable[..., TestClient]


def ring_of(client: TestClient) -> ApiKeyStore:
    return ApiKeyStore(client.app.state.services.store)


def call(client: TestClient, key: str, path: str = "/v1/model", method: str = "GET"):
    return client.request(method, path, headers={"Authorization": f"Bearer {key}"})


def test_a_key_that_has_ended_is_told_so_with_401(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, key = ring_of(client).create("import", ["caption"], timedelta(days=90))
    assert call(client, key).status_code == 200
    # Three months later, whatever is remembered of the key.
    monkeypatch.setattr(api_keys, "now", lambda: record.expires_at)
    refused = call(client, key)
    assert refused.status_code == 401 and refused.json()["type"].endswith("key-expired")
    assert f"{record.expires_at:%Y-%m-%d}" in refused.json()["detail"]
    assert refused.headers["www-authenticate"] == "Bearer"


def test_a_wrong_secret_of_an_ended_key_learns_nothing(client: TestClient) -> None:
    _, key = ring_of(client).create("import", ["caption"], timedelta(0))
    assert call(client, key).json()["type"].endswith("key-expired")
    assert call(client, key[:-5] + "AAAAA").json()["type"].endswith("key-invalid")


def test_whoever_knocks_with_an_ended_key_is_told_to_wait(client: TestClient) -> None:
    _, key = ring_of(client).create("import", ["caption"], timedelta(0))
    assert {call(client, key).status_code for _ in range(70)} == {401, 429}


def test_a_revoked_key_is_revoked_and_not_ended(client: TestClient) -> None:
    record, key = ring_of(client).create("import", ["caption"], timedelta(0))
    ring_of(client).revoke(record.key_id)
    assert call(client, key).json()["type"].endswith("key-invalid")


def last_use(client: TestClient, key_id: str):
    client.app.state.services.store.writer.submit(lambda _: None).result(
        20
    )  # what was handed in before is done
    (record,) = (each for each in ring_of(client).all() if each.key_id == key_id)
    return record.last_used_at


def test_many_uses_are_one_write_a_minute(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    record, key = ring_of(client).create("import", ["caption"])
    written: list[str] = []
    engine = client.app.state.services.store._engine
    event.listen(
        engine, "before_cursor_execute", lambda _, __, statement, *___: written.append(statement), named=False
    )
    assert last_use(client, record.key_id) is None
    began = now()
    for _ in range(30):
        assert call(client, key).status_code == 200
    used = last_use(client, record.key_id)
    assert began <= used <= now()
    assert sum("last_used_at" in each for each in written) == 1
    clock = time.monotonic() + api_keys.USE_SECONDS + 1
    monkeypatch.setattr(api_keys, "monotonic", lambda: clock)
    call(client, key)
    assert last_use(client, record.key_id) > used


def test_a_wrong_or_ended_key_is_not_used(client: TestClient) -> None:
    record, key = ring_of(client).create("import", ["caption"], timedelta(0))
    call(client, key)
    call(client, key[:-5] + "AAAAA")
    assert last_use(client, record.key_id) is None


def test_what_an_administrator_does_is_one_line_each(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = client.post(URL, content=PHOTO, headers={"Content-Type": "image/png"}).json()
    record, key = ring_of(client).create("root", ["admin"])
    path = f"{URL}/{made['caption_id']}"
    with structlog.testing.capture_logs() as lines:
        assert call(client, key, path).status_code == 200
        assert call(client, key, path, "DELETE").status_code == 204
        assert call(client, key, path, "DELETE").status_code == 404
        call(client, key, "/v1/statistics")
    deeds = [line for line in lines if line["event"] == "audit"]
    assert [(each["action"], each["object"], each["outcome"]) for each in deeds] == [
        ("caption.read", made["caption_id"], "done"), ("caption.erase", made["caption_id"], "done"),
        ("caption.erase", made["caption_id"], "nothing"),
    ]  # fmt: skip
    assert {each["actor"] for each in deeds} == {f"key:{record.key_id}"}
    assert key not in str(lines)


AUDITED = """
from captionloop.serving.logs import by_request
from captionloop.serving.logs import configure_logs

configure_logs("ERROR", "gateway")
with by_request("key:1", "caption.erase", "c1"):
    pass
"""


def test_audit_lines_are_written_at_every_level_of_the_log() -> None:
    done = subprocess.run([sys.executable, "-c", AUDITED], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    document = json.loads(line)
    assert (document["service"], document["event"], document["logger"]) == (
        "gateway",
        "audit",
        "captionloop.audit",
    )
    assert (document["actor"], document["action"], document["object"], document["outcome"]) == (
        "key:1", "caption.erase", "c1", "done",
    )  # fmt: skip


def test_an_erasure_that_fails_is_audited_as_failed(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from captionloop.ratings.database import DatabaseError

    made = client.post(URL, content=PHOTO, headers={"Content-Type": "image/png"}).json()
    _, key = ring_of(client).create("root", ["admin"])

    def away(*_, **__):
        raise DatabaseError("away")

    monkeypatch.setattr(client.app.state.services.store, "erase", away)
    with structlog.testing.capture_logs() as lines:
        assert call(client, key, f"{URL}/{made['caption_id']}", "DELETE").status_code == 503
    assert [line["outcome"] for line in lines if line["event"] == "audit"] == ["failed"]


def test_what_people_do_with_their_own_is_not_audited(client: TestClient) -> None:
    with structlog.testing.capture_logs() as lines:
        made = client.post(URL, content=PHOTO, headers={"Content-Type": "image/png"}).json()
        client.get(f"{URL}/{made['caption_id']}")
        client.delete(f"{URL}/{made['caption_id']}")
    assert not [line for line in lines if line["event"] == "audit"]
