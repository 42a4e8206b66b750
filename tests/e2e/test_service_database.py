"""Gateways on a PostgreSQL that others use too, that falls silent, or that nobody made ready."""

import os
import shutil
import statistics
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from servers import DebianPostgres, needs_debian_postgres, new_database
from service_process import ServiceProcess, photo
from sqlalchemy import text

from captionloop.ratings.api_keys import ApiKeyStore
from captionloop.ratings.database import open_engine, upgrade
from captionloop.ratings.rating_store import RatingsStore

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

CLIENTS = 16
SECONDS = float(os.environ.get("CAPTIONLOOP_TEST_CONTENTION_SECONDS", "6"))
SHARE = 0.8
"""Same photos are captioned at this share of the rate of distinct ones, or faster."""


@contextmanager
def gateways(
    folder: Path, database: str, bundle: Path, how_many: int, **settings: str
) -> Iterator[list[ServiceProcess]]:
    running = [
        ServiceProcess(
            folder / str(number),
            CAPTIONLOOP_MODEL=str(bundle),
            CAPTIONLOOP_DATABASE=database,
            CAPTIONLOOP_PHOTOS=str(folder / "photos"),
            **settings,
        )
        for number in range(how_many)
    ]
    try:
        yield [process.wait_until_ready() for process in running]
    finally:
        for process in running:
            process.kill()


def crowd(
    running: list[ServiceProcess], seconds: float, next_photo: Callable[[int, int], bytes]
) -> tuple[float, Counter[int], float]:
    """Captions a second, statuses, and the 95th percentile of the latency, of `CLIENTS` at each gateway."""
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    ready = threading.Barrier(CLIENTS * len(running) + 1)

    def person(number: int) -> None:
        url = running[number % len(running)].url
        with httpx.Client(base_url=url, timeout=60, headers={"Content-Type": "image/jpeg"}) as client:
            turn = 0
            ready.wait()
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                began = time.monotonic()
                answer = client.post("/v1/captions", content=next_photo(number, turn))
                statuses[answer.status_code] += 1
                latencies.append(time.monotonic() - began)
                turn += 1

    threads = [threading.Thread(target=person, args=(number,)) for number in range(CLIENTS * len(running))]
    for thread in threads:
        thread.start()
    ready.wait()
    for thread in threads:
        thread.join()
    return statuses[201] / seconds, statuses, statistics.quantiles(latencies, n=20)[-1]


def test_two_gateways_caption_the_same_six_photos_as_fast_as_distinct_ones(
    any_postgres: str, bundles: list[Path], tmp_path: Path
) -> None:
    """The page offers six examples: those photos are the ones that everybody sends."""
    database = new_database(any_postgres, f"contention_{os.getpid()}")
    upgrade(database)
    six = [photo(seed, size=(96, 96)) for seed in range(6)]

    def same(number: int, turn: int) -> bytes:
        return six[(number * 5 + turn) % 6]

    def distinct(number: int, turn: int) -> bytes:
        return six[turn % 6] + f"{number}.{turn}.{time.monotonic_ns()}".encode()

    with gateways(tmp_path, database, bundles[0], 2) as running:
        crowd(running, 2, distinct)
        rates: dict[str, list[float]] = {"same": [], "distinct": []}
        for name, chosen in (("distinct", distinct), ("same", same), ("distinct", distinct), ("same", same)):
            rate, statuses, p95 = crowd(running, SECONDS / 2, chosen)
            print(f"{name}: {rate:.0f} captions a second, p95 {1000 * p95:.0f} ms, {dict(statuses)}")
            assert set(statuses) == {201}
            rates[name].append(rate)
    assert sum(rates["same"]) >= SHARE * sum(rates["distinct"]), rates
    engine = open_engine(database)
    with engine.connect() as connection:
        deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        assert connection.execute(text(deadlocks)).scalar() == 0
    engine.dispose()


def test_two_gateways_make_one_caption_under_one_idempotency_key(
    any_postgres: str, bundles: list[Path], tmp_path: Path
) -> None:
    """Eight at once send each photo under the photo's key, to both, and go on until they are answered."""
    database = new_database(any_postgres, f"once_{os.getpid()}")
    upgrade(database)
    store = RatingsStore(database)
    _, secret = ApiKeyStore(store).create("twice", ["caption"])
    store.close()
    told: dict[int, set[str]] = {number: set() for number in range(12)}
    statuses: Counter[int] = Counter()

    def person(url: str, start: threading.Barrier) -> None:
        with httpx.Client(base_url=url, timeout=60, headers={"Authorization": f"Bearer {secret}"}) as client:
            for number, ids in told.items():
                headers = {"Idempotency-Key": f"photo-{number}", "Content-Type": "image/jpeg"}
                start.wait()
                while True:
                    answer = client.post("/v1/captions", content=photo(number, (96, 96)), headers=headers)
                    statuses[answer.status_code] += 1
                    if answer.status_code != 409:
                        break
                    time.sleep(0.05)
                ids.add(answer.json()["caption_id"])

    with gateways(tmp_path, database, bundles[0], 2) as running:
        start = threading.Barrier(8)
        people = [
            threading.Thread(target=person, args=(running[number % 2].url, start)) for number in range(8)
        ]
        for each in people:
            each.start()
        for each in people:
            each.join()
    assert set(statuses) <= {201, 409} and statuses[201] == 8 * 12
    assert all(len(ids) == 1 for ids in told.values()), told
    engine = open_engine(database)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM captions")) == 12
    engine.dispose()


class Network:
    """A network namespace behind a virtual cable that can be cut without anybody being told."""

    HERE, THERE = "10.213.77.1", "10.213.77.2"

    def __init__(self) -> None:
        number = os.getpid() % 10_000
        self._name, self._cable = f"captionloop{number}", f"clh{number}"
        self._ip("netns", "add", self._name)
        peer = f"clp{number}"
        self._ip("link", "add", self._cable, "type", "veth", "peer", "name", peer, "netns", self._name)
        self._ip("addr", "add", f"{self.HERE}/30", "dev", self._cable)
        self._ip("link", "set", self._cable, "up")
        self._ip("-n", self._name, "addr", "add", f"{self.THERE}/30", "dev", peer)
        self._ip("-n", self._name, "link", "set", peer, "up")
        self._ip("-n", self._name, "link", "set", "lo", "up")
        self.inside = ("ip", "netns", "exec", self._name)

    def fall_silent(self) -> None:
        """Whatever comes from the other side is dropped: no answer, no acknowledgement, no refusal."""
        self._ip("-n", self._name, "route", "add", "blackhole", f"{self.HERE}/32")

    def speak_again(self) -> None:
        self._ip("-n", self._name, "route", "del", "blackhole", f"{self.HERE}/32")

    def remove(self) -> None:
        self._ip("link", "del", self._cable)
        self._ip("netns", "del", self._name)

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def network() -> Iterator[Network]:
    needs_debian_postgres()
    if shutil.which("ip") is None:
        pytest.skip("needs the Debian package iproute2")
    try:
        made = Network()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs to make a network namespace ({error.stderr.decode().strip()})")
    yield made
    made.remove()


def test_a_database_that_falls_silent_is_503_within_five_seconds_and_whole_again_within_ten(
    network: Network, bundles: list[Path], tmp_path: Path
) -> None:
    server = DebianPostgres(network.THERE, network.inside)
    try:
        upgrade(server.url)
        with gateways(tmp_path, server.url, bundles[0], 1) as (gateway,):
            store = RatingsStore(server.url)
            key = ApiKeyStore(store).create("somebody", ["caption"])[1]
            store.close()
            _silence(network, gateway, key)
    finally:
        server.remove()


def _silence(network: Network, gateway: ServiceProcess, key: str) -> None:
    told: list[tuple[float, float, int, bool]] = []
    over = threading.Event()

    def person(method: str, path: str, body: bytes | None, headers: dict[str, str]) -> None:
        with httpx.Client(base_url=gateway.url, timeout=60, headers=headers) as client:
            while not over.is_set():
                began = time.monotonic()
                answer = client.request(method, path, content=body)
                ended = time.monotonic()
                told.append((ended, ended - began, answer.status_code, "retry-after" in answer.headers))
                over.wait(0.2)

    sent = {"Content-Type": "image/jpeg"}
    with httpx.Client(base_url=gateway.url, timeout=60) as owner:
        made = owner.post("/v1/captions", content=photo(), headers=sent).headers["location"]
        cookie = {"Cookie": f"captionloop_rater={owner.cookies['captionloop_rater']}"}
    # Each is asked by three, so that there is always somebody in the middle of something.
    asked = 3 * [
        ("POST", "/v1/captions", photo(), sent),
        ("PUT", f"{made}/rating", b'{"stars": 3}', {"Content-Type": "application/json"}),
        ("GET", made, None, cookie),
        ("GET", "/v1/statistics?days=365", None, {}),
        ("GET", "/readyz", None, {}),
        ("GET", "/v1/model", None, {"X-API-Key": key}),
    ]
    people = [threading.Thread(target=person, args=each) for each in asked]
    for each in people:
        each.start()
    try:
        time.sleep(2)
        network.fall_silent()
        silent = time.monotonic()
        time.sleep(12)
        assert httpx.get(f"{gateway.url}/readyz", timeout=10).status_code == 503
        assert httpx.get(f"{gateway.url}/livez", timeout=1).status_code == 200
        network.speak_again()
        speaking = time.monotonic()
        time.sleep(12)
    finally:
        over.set()
        for each in people:
            each.join()
    print(f"{len(told)} answers, the longest {max(seconds for _, seconds, _, _ in told):.1f} s")
    assert max(seconds for _, seconds, _, _ in told) < 5.0
    during = [each for each in told if silent + 5 < each[0] < speaking]
    assert any(status == 503 for _, _, status, _ in during)
    assert all(retry_after for _, _, status, retry_after in told if status == 503)
    assert {status for _, _, status, _ in told} <= {200, 201, 503}
    assert 503 not in {status for ended, _, status, _ in told if ended > speaking + 10}, "not whole again"
    assert 201 in {status for ended, _, status, _ in told if ended > speaking + 10}


def test_a_database_without_tables_or_with_older_ones_is_not_ready_and_says_what_to_run(
    any_postgres: str, bundles: list[Path], tmp_path: Path
) -> None:
    database = new_database(any_postgres, f"empty_{os.getpid()}")
    running = ServiceProcess(tmp_path, CAPTIONLOOP_MODEL=str(bundles[0]), CAPTIONLOOP_DATABASE=database)
    try:
        assert "has no tables: run captionloop database upgrade" in _reason(running)
        upgrade(database)
        engine = open_engine(database)
        with engine.begin() as connection:
            newest = connection.scalar(text("SELECT version_num FROM alembic_version"))
            connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        assert "is of revision 0001" in _reason(running)
        assert "run captionloop database upgrade" in running.log.read_text()
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :newest"), {"newest": newest})
        engine.dispose()
        running.wait_until_ready(30)
    finally:
        running.kill()


def _reason(running: ServiceProcess) -> str:
    """Why it is not ready, once that is the database."""
    deadline = time.monotonic() + 120
    told = ""
    while "database" not in told:
        assert time.monotonic() < deadline, told
        time.sleep(0.3)
        try:
            answer = httpx.get(f"{running.url}/readyz", timeout=10)
        except httpx.TransportError:
            continue
        assert answer.status_code == 503
        told = answer.json()["reason"]
    return told
