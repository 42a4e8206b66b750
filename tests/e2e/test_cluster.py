"""Three gateways and two model servers behind nginx, with PostgreSQL and Redis.

This is the shape of docs/how-to/cluster.md.
Half a minute of load by default; `CAPTIONLOOP_TEST_LOAD_SECONDS=60` makes it the minute of the claim.
"""

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from servers import new_database
from service_process import SERVICE, ServiceProcess, free_port, photo
from small_project import ROOT
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from captionloop.ratings.api_keys import ApiKeyStore
from captionloop.ratings.database import open_reader, upgrade
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import Rating
from captionloop.registry.model_registry import ModelRegistry

pytestmark = [pytest.mark.e2e, pytest.mark.service, pytest.mark.timeout(1200)]
CLIENTS = 32
SECONDS = float(os.environ.get("CAPTIONLOOP_TEST_LOAD_SECONDS", "30"))
KEY_CAPTIONS = 20
MODEL_SERVER = "captionloop.serving.service:ModelServer"
TO_COME_AGAIN = {429, 502, 503, 504}


class Cluster:
    """The processes of a cluster on one machine, in folders of their own."""

    def __init__(self, folder: Path, database: str, registry: ModelRegistry, redis: str) -> None:
        self.database, self.registry = database, registry
        ports = {name: free_port() for name in ("8080", "8081", "3001", "3002", "3003", "3101", "3102")}
        models = {
            "CAPTIONLOOP_REGISTRY": registry.tracking_uri,
            "CAPTIONLOOP_FOLLOW_SECONDS": "1",
        }
        gateways = {
            "CAPTIONLOOP_DATABASE": database,
            "CAPTIONLOOP_PHOTOS": str(folder / "photos"),
            "CAPTIONLOOP_MODEL_SERVER": f"http://127.0.0.1:{ports['8081']}",
            "CAPTIONLOOP_TRUSTED_PROXIES": "1",
            "CAPTIONLOOP_RATE_LIMIT_STORAGE": f"async+{redis}",
            "CAPTIONLOOP_KEY_CAPTIONS_PER_MINUTE": str(KEY_CAPTIONS),
        }

        def starter(name: str, what: str, settings: dict[str, str]) -> Callable[[], ServiceProcess]:
            return lambda: ServiceProcess(folder / name, what, ports[name], **settings)

        self._starters = {name: starter(name, MODEL_SERVER, models) for name in ("3101", "3102")}
        self._starters |= {name: starter(name, SERVICE, gateways) for name in ("3001", "3002", "3003")}
        self.running = {name: start() for name, start in self._starters.items()}
        self.url = f"http://127.0.0.1:{ports['8080']}"
        self._balancer = balancer(folder / "nginx", ports)

    def wait_until_ready(self) -> "Cluster":
        for process in self.running.values():
            process.wait_until_ready()
        return self

    def kill(self, name: str) -> None:
        self.running[name].kill()

    def restart(self, *names: str) -> None:
        """Starts those that were killed, side by side."""
        self.running |= {name: self._starters[name]() for name in names}
        self.wait_until_ready()

    def versions(self) -> set[str]:
        """What each gateway says is served, asked several times: either model server may answer."""
        gateways = [self.running[name].url for name in ("3001", "3002", "3003")]
        return {httpx.get(f"{url}/v1/model", timeout=30).json()["version"] for url in gateways * 4}

    def stop(self) -> None:
        self._balancer.terminate()
        self._balancer.wait(10)
        for process in self.running.values():
            process.kill()


def balancer(folder: Path, ports: dict[str, int]) -> subprocess.Popen[bytes]:
    """nginx with the project's own configuration, but for the ports."""
    folder.mkdir()
    written = (ROOT / "deploy/nginx/balancer.conf").read_text()
    for name, port in ports.items():
        assert f":{name}" in written
        written = written.replace(f":{name}", f":{port}")
    (folder / "balancer.conf").write_text(written)
    command = ["nginx", "-p", str(folder), "-c", "balancer.conf"]
    if os.geteuid() == 0:  # its workers would become a user who may not look into our folder
        command += ["-g", "user root;"]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, postgres: str, redis: str, bundles: list[Path]
) -> Iterator[Cluster]:
    if not shutil.which("nginx"):
        pytest.skip("needs nginx (requirements/debian.txt)")
    folder = tmp_path_factory.mktemp("cluster")
    ratings = postgres
    mlflow = new_database(postgres, "mlflow").replace("postgresql:", "postgresql+psycopg:")
    upgrade(ratings)
    with contextlib.chdir(folder):
        registry = ModelRegistry(mlflow)
        versions = [registry.register(bundle) for bundle in bundles[:2]]
    registry.promote(versions[0].version)
    running = Cluster(folder, ratings, registry, redis)
    try:
        yield running.wait_until_ready()
    finally:
        running.stop()


class Person:
    """Captions and rates over and over, and tries again once, as a client of ours would."""

    def __init__(self, url: str, number: int) -> None:
        self.answers: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self.rated: dict[str, int] = {}
        self.retries = 0
        self._photos = [
            photo(number * 1000 + number_of_photo, size=(96, 96)) for number_of_photo in range(50)
        ]
        self._http = httpx.Client(base_url=url, timeout=60)

    def live(self, until: Callable[[], bool]) -> None:
        number_of_photo = 0
        while not until():
            body = self._photos[number_of_photo % 50]
            made = self._ask("POST", "/v1/captions", content=body, headers={"Content-Type": "image/jpeg"})
            number_of_photo += 1
            if made is None:
                continue
            caption = made.json()
            self.versions[caption["model"]["version"]] += 1
            stars = 1 + number_of_photo % 5
            rated = self._ask("PUT", f"/v1/captions/{caption['caption_id']}/rating", json={"stars": stars})
            if rated is not None:
                self.rated[caption["caption_id"]] = stars

    def _ask(self, method: str, path: str, **request: object) -> httpx.Response | None:
        for attempt in range(2):
            try:
                answer = self._http.request(method, path, **request)
            except httpx.TransportError as error:
                reason = type(error).__name__
            else:
                if answer.is_success:
                    self.answers["ok"] += 1
                    return answer
                reason = f"{answer.status_code} {answer.text[:240]}"
                if answer.status_code not in TO_COME_AGAIN:
                    break
            if attempt == 0:
                self.retries += 1
                time.sleep(1)
        self.answers[reason] += 1
        return None


def test_a_key_has_one_limit_at_three_gateways(cluster: Cluster) -> None:
    store = RatingsStore(cluster.database)
    _, key = ApiKeyStore(store).create("a limit", ["caption"])
    store.close()
    with httpx.Client(base_url=cluster.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        asked = [client.post("/v1/captions", files={"image": photo(n)}) for n in range(KEY_CAPTIONS + 7)]
    statuses = Counter(answer.status_code for answer in asked)
    assert statuses == {201: KEY_CAPTIONS, 429: 7}


def test_killing_one_of_each_loses_no_rating_and_a_promotion_reaches_all(cluster: Cluster) -> None:
    people = [Person(cluster.url, number) for number in range(CLIENTS)]
    over = threading.Event()
    threads = [threading.Thread(target=person.live, args=(over.is_set,)) for person in people]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    try:
        for name in ("3001", "3101"):  # for a while both are gone
            time.sleep(SECONDS / 6)
            cluster.kill(name)
        time.sleep(SECONDS / 6)
        cluster.restart("3001", "3101")
        newest = max(cluster.registry.versions(), key=lambda version: version.version)
        cluster.registry.promote(newest.version)
        while cluster.versions() != {"2"}:
            assert time.monotonic() - began < SECONDS + 300, "the promotion did not reach all"
            time.sleep(1)
        time.sleep(max(SECONDS / 6, SECONDS - (time.monotonic() - began)))
    finally:
        over.set()
        for thread in threads:
            thread.join()
    seconds = time.monotonic() - began

    answers: Counter[str] = sum((person.answers for person in people), Counter())
    versions: Counter[str] = sum((person.versions for person in people), Counter())
    retries = sum(person.retries for person in people)
    summary = f"{dict(answers)}, {retries} asked twice, versions {dict(versions)}"
    print(f"{CLIENTS} clients, {seconds:.0f} s: {summary}")
    assert set(answers) == {"ok"}, "an error that a client with one retry sees"
    assert set(versions) == {"1", "2"}
    assert cluster.versions() == {"2"}

    wanted = {caption: stars for person in people for caption, stars in person.rated.items()}
    engine = open_reader(cluster.database)
    with Session(engine) as session:
        found = {row.caption_id: row.stars for row in session.scalars(select(Rating))}
        count = session.scalar(select(func.count()).select_from(Rating))
    engine.dispose()
    assert count == len(found), "no rating twice"
    assert {caption: found.get(caption) for caption in wanted} == wanted
