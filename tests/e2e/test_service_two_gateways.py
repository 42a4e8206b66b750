"""Two gateways on one PostgreSQL and one photo archive: the same photos, the same keys, the same erasures."""

import os
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from servers import new_database
from service_process import ServiceProcess, gateways, kept, photo
from sqlalchemy import text

from captionloop.photos import PhotoArchive
from captionloop.ratings.api_keys import ApiKeyStore
from captionloop.ratings.database import open_engine, upgrade
from captionloop.ratings.photo_removal import finish_removals
from captionloop.ratings.rating_store import RatingsStore

# One of them measures, and all share the gateways.
pytestmark = [pytest.mark.e2e, pytest.mark.service, pytest.mark.alone, pytest.mark.timeout(600)]

CLIENTS = 16
SECONDS = float(os.environ.get("CAPTIONLOOP_TEST_CONTENTION_SECONDS", "6"))
SHARE = 0.8
"""Same photos are captioned at this share of the rate of distinct ones, or faster."""


@dataclass(frozen=True)
class Pair:
    """Two gateways, and what they share."""

    running: list[ServiceProcess]
    database: str
    photos: Path

    def count(self, statement: str, **values: str) -> int:
        """A number from the database."""
        engine = open_engine(self.database)
        with engine.connect() as connection:
            found = connection.scalar(text(statement), values)
        engine.dispose()
        return int(found or 0)


@pytest.fixture(scope="module")
def pair(any_postgres: str, bundles: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    database = new_database(any_postgres, f"pair_{os.getpid()}")
    upgrade(database)
    with gateways(folder, database, bundles[0], 2) as running:
        yield Pair(running, database, folder / "photos")


def run_clients(
    running: list[ServiceProcess], seconds: float, next_photo: Callable[[int, int], bytes]
) -> tuple[float, Counter[int], float]:
    """Captions a second, statuses, and the 95th percentile of the latency, of `CLIENTS` at each gateway."""
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    ready = threading.Barrier(CLIENTS * len(running) + 1)

    def person(number: int) -> None:
        url = running[number % len(running)].url
        with httpx.Client(base_url=url, timeout=60, headers={"Content-Type": "image/jpeg"}) as client:
            number_of_photo = 0
            ready.wait()
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                began = time.monotonic()
                answer = client.post("/v1/captions", content=next_photo(number, number_of_photo))
                statuses[answer.status_code] += 1
                latencies.append(time.monotonic() - began)
                number_of_photo += 1

    threads = [threading.Thread(target=person, args=(number,)) for number in range(CLIENTS * len(running))]
    for thread in threads:
        thread.start()
    ready.wait()
    for thread in threads:
        thread.join()
    return statuses[201] / seconds, statuses, statistics.quantiles(latencies, n=20)[-1]


def test_the_same_six_photos_are_captioned_as_fast_as_distinct_ones(pair: Pair) -> None:
    """The page offers six examples: those photos are the ones that everybody sends."""
    six = [photo(seed, size=(96, 96)) for seed in range(6)]

    def same(number: int, number_of_photo: int) -> bytes:
        return six[(number * 5 + number_of_photo) % 6]

    def distinct(number: int, number_of_photo: int) -> bytes:
        return six[number_of_photo % 6] + f"{number}.{number_of_photo}.{time.monotonic_ns()}".encode()

    run_clients(pair.running, 2, distinct)
    rates: dict[str, list[float]] = {"same": [], "distinct": []}
    for name, chosen in (("distinct", distinct), ("same", same), ("distinct", distinct), ("same", same)):
        rate, statuses, p95 = run_clients(pair.running, SECONDS / 2, chosen)
        print(f"{name}: {rate:.0f} captions a second, p95 {1000 * p95:.0f} ms, {dict(statuses)}")
        assert set(statuses) == {201}
        rates[name].append(rate)
    assert sum(rates["same"]) >= SHARE * sum(rates["distinct"]), rates
    assert pair.count("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


def test_one_idempotency_key_is_one_caption(pair: Pair) -> None:
    """Eight at once send each photo under the photo's key, to both, and go on until they are answered."""
    store = RatingsStore(pair.database)
    record, secret = ApiKeyStore(store).create("twice", ["caption"])
    store.close()
    caption_ids: dict[int, set[str]] = {number: set() for number in range(12)}
    statuses: Counter[int] = Counter()

    def person(url: str, start: threading.Barrier) -> None:
        with httpx.Client(base_url=url, timeout=60, headers={"Authorization": f"Bearer {secret}"}) as client:
            for number, ids in caption_ids.items():
                headers = {"Idempotency-Key": f"photo-{number}", "Content-Type": "image/jpeg"}
                start.wait()
                while True:
                    answer = client.post("/v1/captions", content=photo(number, (96, 96)), headers=headers)
                    statuses[answer.status_code] += 1
                    if answer.status_code != 409:
                        break
                    time.sleep(0.05)
                ids.add(answer.json()["caption_id"])

    start = threading.Barrier(8)
    people = [
        threading.Thread(target=person, args=(pair.running[number % 2].url, start)) for number in range(8)
    ]
    for each in people:
        each.start()
    for each in people:
        each.join()
    assert set(statuses) <= {201, 409} and statuses[201] == 8 * 12
    assert all(len(ids) == 1 for ids in caption_ids.values()), caption_ids
    counted = pair.count("SELECT count(*) FROM captions WHERE owner = :key", key=f"key:{record.key_id}")
    assert counted == 12


def test_erasing_and_taking_the_same_photo_loses_none(pair: Pair) -> None:
    sent = photo(1000, size=(96, 96))  # of no other test here
    before = kept(pair.photos)
    statuses: Counter[str] = Counter()
    kept_by: list[tuple[str, str]] = []

    def person(gateway: ServiceProcess, until: float) -> None:
        headers = {"Content-Type": "image/jpeg"}
        with httpx.Client(base_url=gateway.url, timeout=60, headers=headers) as client:
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

    until = time.monotonic() + SECONDS
    people = [threading.Thread(target=person, args=(pair.running[number % 2], until)) for number in range(8)]
    for each in people:
        each.start()
    for each in people:
        each.join()
    print(dict(statuses))
    assert len(kept_by) == 8 and len(kept(pair.photos) - before) == 1, "eight captions show the one photo"
    for caption_id, cookie in kept_by:
        url = f"{pair.running[0].url}/v1/captions/{caption_id}"
        assert httpx.delete(url, headers={"Cookie": f"captionloop_rater={cookie}"}).status_code == 204
    assert kept(pair.photos) == before
    assert set(statuses) <= {"POST 201", "DELETE 204", "DELETE 202"}
    store, archive = RatingsStore(pair.database), PhotoArchive(str(pair.photos))
    finish_removals(store.ledger, archive, 1000)
    assert store.ledger.in_archive(1) == []
    store.close()
