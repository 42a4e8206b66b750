"""Erasing beside uploads of the same photo, by two gateways; uploads while the database is away."""

import os
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from servers import DebianPostgres, needs_debian_postgres, new_database
from service_process import ServiceProcess, photo
from test_service_database import gateways

from captionloop.photos import PREFIXES, PhotoArchive
from captionloop.ratings.database import upgrade
from captionloop.ratings.ledger import differences, finish
from captionloop.ratings.rating_store import RatingsStore

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SENT = {"Content-Type": "image/jpeg"}
SECONDS = 6


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "photos").rglob("*") if path.is_file())


def test_two_gateways_erase_and_take_the_same_photo_and_none_is_lost(
    any_postgres: str, bundles: list[Path], tmp_path: Path
) -> None:
    database = new_database(any_postgres, f"erasing_{os.getpid()}")
    upgrade(database)
    sent = photo(size=(96, 96))
    statuses: Counter[str] = Counter()
    kept_by: list[tuple[str, str]] = []

    def person(gateway: ServiceProcess, until: float) -> None:
        with httpx.Client(base_url=gateway.url, timeout=60, headers=SENT) as client:
            client.get("/v1/captions")
            while time.monotonic() < until:
                made = client.post("/v1/captions", content=sent)
                statuses[f"POST {made.status_code}"] += 1
                if made.status_code == 201:
                    erased = client.delete(f"/v1/captions/{made.json()['caption_id']}")
                    statuses[f"DELETE {erased.status_code}"] += 1
            last = client.post("/v1/captions", content=sent)
            statuses[f"POST {last.status_code}"] += 1
            kept_by.append((last.json()["caption_id"], client.cookies["captionloop_rater"]))

    with gateways(tmp_path, database, bundles[0], 2) as running:
        until = time.monotonic() + SECONDS
        people = [threading.Thread(target=person, args=(running[number % 2], until)) for number in range(8)]
        for each in people:
            each.start()
        for each in people:
            each.join()
        print(dict(statuses))
        assert len(kept_by) == 8 and len(kept(tmp_path)) == 1, "eight captions show the one photo"
        for caption_id, cookie in kept_by:
            url = f"{running[0].url}/v1/captions/{caption_id}"
            assert httpx.delete(url, headers={"Cookie": f"captionloop_rater={cookie}"}).status_code == 204
        assert kept(tmp_path) == []
    assert set(statuses) <= {"POST 201", "DELETE 204", "DELETE 202"}
    store, archive = RatingsStore(database), PhotoArchive(str(tmp_path / "photos"))
    finish(store.ledger, archive, 1000)
    assert store.ledger.in_archive(1) == []
    store.close()


def test_uploads_while_the_database_is_away_leave_no_photo(bundles: list[Path], tmp_path: Path) -> None:
    needs_debian_postgres()
    server = DebianPostgres()
    try:
        upgrade(server.url)
        with (
            gateways(tmp_path, server.url, bundles[0], 1) as (gateway,),
            httpx.Client(base_url=gateway.url, timeout=60, headers=SENT) as client,
        ):
            assert client.post("/v1/captions", content=photo(1)).status_code == 201
            server.stop()
            refused = [client.post("/v1/captions", content=photo(seed)) for seed in range(2, 7)]
            assert [answer.status_code for answer in refused] == [503] * 5
            assert len(kept(tmp_path)) == 1
            server.start()
            deadline = time.monotonic() + 20
            while client.post("/v1/captions", content=photo(9)).status_code != 201:
                assert time.monotonic() < deadline
                time.sleep(0.5)
        store, archive = RatingsStore(server.url), PhotoArchive(str(tmp_path / "photos"))
        found = [differences(store.ledger, archive, prefix) for prefix in PREFIXES]
        assert not [each for each in found if each.orphans or each.lost]
        store.close()
    finally:
        server.remove()
