"""A gateway on a PostgreSQL that falls silent, goes away, or was not made ready."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from servers import DebianPostgres, needs_debian_postgres, new_database
from service_process import ServiceProcess, gateways, kept, photo
from sqlalchemy import text

from captionloop.photos import PREFIXES, PhotoArchive
from captionloop.ratings.api_keys import ApiKeyStore
from captionloop.ratings.database import open_engine, upgrade
from captionloop.ratings.photo_removal import differences
from captionloop.ratings.rating_store import RatingsStore

pytestmark = [pytest.mark.e2e, pytest.mark.service, pytest.mark.timeout(600)]


SENT = {"Content-Type": "image/jpeg"}


class Told(NamedTuple):
    """An answer: to what, when it was there, how long it took, and what it said."""

    asked: str
    ended: float
    seconds: float
    status: int
    retry_after: bool


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


@pytest.mark.alone
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
    told: list[Told] = []
    over = threading.Event()

    def person(method: str, path: str, body: bytes | None, headers: dict[str, str]) -> None:
        with httpx.Client(base_url=gateway.url, timeout=60, headers=headers) as client:
            while not over.is_set():
                began = time.monotonic()
                answer = client.request(method, path, content=body)
                ended = time.monotonic()
                retry_after = "retry-after" in answer.headers
                told.append(Told(f"{method} {path}", ended, ended - began, answer.status_code, retry_after))
                over.wait(0.2)

    with httpx.Client(base_url=gateway.url, timeout=60) as owner:
        made = owner.post("/v1/captions", content=photo(), headers=SENT).headers["location"]
        cookie = {"Cookie": f"captionloop_rater={owner.cookies['captionloop_rater']}"}
    # Each is asked by three, so that there is always somebody in the middle of something.
    kinds = [
        ("POST", "/v1/captions", photo(), SENT),
        ("PUT", f"{made}/rating", b'{"stars": 3}', {"Content-Type": "application/json"}),
        ("GET", made, None, cookie),
        ("GET", "/v1/statistics?days=365", None, {}),
        ("GET", "/readyz", None, {}),
        ("GET", "/v1/model", None, {"X-API-Key": key}),
    ]

    def is_whole() -> bool:
        """Each has been answered within the last two seconds, and none of them with 503."""
        lately = [each for each in told if each.ended > time.monotonic() - 2]
        return {each.asked for each in lately} == {f"{method} {path}" for method, path, *_ in kinds} and not [
            each for each in lately if each.status == 503
        ]

    people = [threading.Thread(target=person, args=each) for each in 3 * kinds]
    for each in people:
        each.start()
    try:
        time.sleep(2)
        network.fall_silent()
        silent = time.monotonic()
        time.sleep(9)
        assert httpx.get(f"{gateway.url}/readyz", timeout=10).status_code == 503
        assert httpx.get(f"{gateway.url}/livez", timeout=1).status_code == 200
        network.speak_again()
        speaking = time.monotonic()
        time.sleep(2)
        while not is_whole():
            assert time.monotonic() < speaking + 12, "not whole again"
            time.sleep(0.1)
        whole = time.monotonic() - 2 - speaking
    finally:
        over.set()
        for each in people:
            each.join()
    print(f"{len(told)} answers, the longest {max(each.seconds for each in told):.1f} s")
    print(f"whole again {max(0.0, whole):.1f} s after the database spoke")
    assert max(each.seconds for each in told) < 5.0
    during = [each for each in told if silent + 5 < each.ended < speaking]
    assert any(each.status == 503 for each in during)
    assert all(each.retry_after for each in told if each.status == 503)
    assert {each.status for each in told} <= {200, 201, 503}


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
            assert len(kept(tmp_path / "photos")) == 1
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
    detail = ""
    while "database" not in detail:
        assert time.monotonic() < deadline, detail
        time.sleep(0.3)
        try:
            answer = httpx.get(f"{running.url}/readyz", timeout=10)
        except httpx.TransportError:
            continue
        assert answer.status_code == 503
        detail = answer.json()["reason"]
    return detail
