"""What is erased is gone, or is known to remain and goes later; what failed leaves nothing behind."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from serving_fakes import PHOTO, png
from starlette.testclient import TestClient

from captionloop.photos import ArchiveError, PhotoArchive
from captionloop.ratings.database import DatabaseError
from captionloop.ratings.photo_removal import differences, finish_removals
from captionloop.serving.gateway import retention
from captionloop.serving.gateway.dependencies import Services

pytestmark = pytest.mark.integration

URL = "/v1/captions"
FORM = {"image": ("a.png", PHOTO, "image/png")}
Gateway = Callable[..., TestClient]


@pytest.fixture
def services(client: TestClient) -> Services:
    return client.app.state.services


def photos(state: Path) -> list[str]:
    return sorted(path.name for path in (state / "photos").rglob("*") if path.is_file())


def away(*_: object) -> None:
    raise ArchiveError("the archive is away")


def test_uploads_while_the_database_is_away_leave_no_photo(
    client: TestClient, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise DatabaseError("the database is away")

    monkeypatch.setattr(services.store.ledger, "begin", refuse)
    assert [client.post(URL, files=FORM).status_code for _ in range(5)] == [503] * 5
    assert photos(tmp_path / "state") == []


def test_a_photo_whose_caption_was_not_stored_is_found_and_removed(
    client: TestClient, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise DatabaseError("the database is away")

    with monkeypatch.context() as patched:
        patched.setattr(services.store, "record", refuse)
        assert client.post(URL, files=FORM).status_code == 503
    (kept,) = photos(tmp_path / "state")
    ledger, archive = services.store.ledger, services.archive
    assert differences(ledger, archive, kept[:2]).orphans == (), "it is still pending"
    assert finish_removals(ledger, archive, 10).settled == 0 and photos(tmp_path / "state") == [kept]
    ledger.abandon_pending(10, older_than=timedelta(0)).result(10)
    assert finish_removals(ledger, archive, 10).settled == 1
    assert photos(tmp_path / "state") == []


def test_a_caption_that_was_stored_and_not_answered_is_erased(
    client: TestClient, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.get(URL)  # a cookie, by which to look
    record = services.store.record

    def too_late(*given: object) -> None:
        record(*given).result(10)
        raise DatabaseError("the answer was lost")

    with monkeypatch.context() as patched:
        patched.setattr(services.store, "record", too_late)
        assert client.post(URL, files=FORM).status_code == 503
    assert len(client.get(URL).json()["captions"]) == 1 and len(photos(tmp_path / "state")) == 1
    client.portal.call(retention.finish_pending, services)
    assert client.get(URL).json()["captions"] == [] and photos(tmp_path / "state") == []


def test_erasing_while_the_archive_is_away_erases_and_says_what_remains(
    client: TestClient, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{URL}/{client.post(URL, files=FORM).json()['caption_id']}"
    with monkeypatch.context() as patched:
        patched.setattr(PhotoArchive, "erase", away)
        for _ in range(2):
            answer = client.delete(url)
            assert (answer.status_code, answer.json()) == (202, {"remaining": ["photo archive"]})
            assert client.get(url).status_code == 404
        client.portal.call(retention.finish_pending, services)
        assert len(photos(tmp_path / "state")) == 1
    assert client.delete(url).status_code == 204, "who tries again succeeds"
    assert photos(tmp_path / "state") == []
    assert client.delete(url).status_code == 404


def test_a_photo_that_could_not_be_removed_is_removed_by_the_gateway_itself(
    client: TestClient, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(PhotoArchive, "erase", away)
        for side in (9, 8, 7):
            client.post(URL, files={"image": ("a.png", png((side, side)), "image/png")})
        answer = client.delete("/v1/me")
        assert (answer.status_code, answer.json()) == (202, {"remaining": ["photo archive"]})
        assert client.get(URL).json()["captions"] == []
    assert len(photos(tmp_path / "state")) == 3
    client.portal.call(retention.finish_pending, services)
    assert photos(tmp_path / "state") == []
    assert client.delete("/v1/me").status_code == 204


def test_nobody_else_learns_of_what_remains(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{URL}/{client.post(URL, files=FORM).json()['caption_id']}"
    monkeypatch.setattr(PhotoArchive, "erase", away)
    assert client.delete(url).status_code == 202
    client.cookies.clear()
    assert client.delete(url).status_code == 404


def test_a_photo_sent_while_it_is_being_removed_is_there_afterwards(
    client: TestClient, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The removal is stopped in its middle; the upload of the same file waits for its end."""
    url = f"{URL}/{client.post(URL, files=FORM).json()['caption_id']}"
    remove, being_removed = services.archive.erase, services.store.ledger.being_removed
    checked: list[str] = []

    def slowly(sha256: str) -> None:
        while not checked:
            pass
        remove(sha256)

    def look(sha256: str) -> bool:
        checked.append(sha256)
        return being_removed(sha256)

    monkeypatch.setattr(services.archive, "erase", slowly)
    monkeypatch.setattr(services.store.ledger, "being_removed", look)

    async def both() -> tuple[int, int]:
        transport = httpx.ASGITransport(app=client.app)
        cookies = dict(client.cookies)
        async with httpx.AsyncClient(transport=transport, base_url="http://t", cookies=cookies) as caller:
            erasing = asyncio.create_task(caller.delete(url))
            while not any(services.store.ledger.in_archive(1)):
                await asyncio.sleep(0)
            made = await caller.post(URL, files=FORM)
            return (await erasing).status_code, made.status_code

    erased, made = client.portal.call(both)
    assert made == 201 and erased in {202, 204}
    (kept,) = photos(tmp_path / "state")
    assert services.archive.read(kept) == (tmp_path / f"state/photos/{kept[:2]}/{kept}").read_bytes()
    assert differences(services.store.ledger, services.archive, kept[:2]).lost == ()


def test_what_differs_between_database_and_archive_is_found(
    client: TestClient, services: Services, tmp_path: Path
) -> None:
    client.post(URL, files=FORM)
    (kept,) = photos(tmp_path / "state")
    other = kept[:2] + "0" * 62
    services.archive.write(other, b"nobody's")
    torn = tmp_path / f"state/photos/{kept[:2]}/.{kept}.killed"
    torn.touch()
    ledger = services.store.ledger
    found = differences(ledger, services.archive, kept[:2])
    assert (found.orphans, found.lost) == ((other,), ())
    assert torn.exists(), "its writer may live"
    assert services.archive.remove_abandoned(kept[:2], -1) == 1 and not torn.exists()
    (tmp_path / f"state/photos/{kept[:2]}/{kept}").unlink()
    assert client.portal.call(retention.look_for_differences, services, [kept[:2]]).lost == (kept,)
    assert (tmp_path / f"state/photos/{kept[:2]}/{other}").exists(), "it may be another's"


def test_a_disk_that_is_not_mounted_is_no_archive_without_photos(
    client: TestClient, services: Services, tmp_path: Path
) -> None:
    url = f"{URL}/{client.post(URL, files=FORM).json()['caption_id']}"
    (tmp_path / "state/photos").rename(tmp_path / "unmounted")
    assert client.delete(url).status_code == 202
    (tmp_path / "unmounted").rename(tmp_path / "state/photos")
    assert client.delete(url).status_code == 204
    assert photos(tmp_path / "state") == []


def test_what_is_past_its_retention_goes_with_its_photo(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = gateway()
    client.post(URL, files=FORM)
    services = client.app.state.services
    expire = services.store.expire
    monkeypatch.setattr(
        services.store, "expire", lambda **_: expire(unrated=timedelta(0), rated=timedelta(0))
    )
    client.portal.call(retention.end_retention, services)
    client.portal.call(retention.finish_pending, services)
    assert photos(tmp_path / "state") == [] and client.get(URL).json()["captions"] == []
    (tombstone,) = services.store.ledger.pending_cleanup()
    assert tombstone.reason == "retention"
