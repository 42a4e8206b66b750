"""The service stops: killed in the middle of ratings, and asked to in the middle of an upload."""

import random
import socket
import threading
import time
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from service_process import ServiceProcess, photo

from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.usage_statistics import statistics

pytestmark = [pytest.mark.e2e, pytest.mark.service]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stopping")


def test_ratings_acknowledged_over_http_survive_a_kill(folder: Path, bundles: list[Path]) -> None:
    service = ServiceProcess(folder, CAPTIONLOOP_MODEL=str(bundles[0])).wait_until_ready()
    captions = [
        httpx.post(f"{service.url}/v1/captions", files={"image": photo(seed)}, timeout=60).json()[
            "caption_id"
        ]
        for seed in range(16)
    ]
    acknowledged: list[tuple[str, str, int]] = []

    def person(number: int) -> None:
        chance = random.Random(number)
        try:
            while True:
                with httpx.Client(base_url=service.url, timeout=10) as client:
                    caption_id, stars = chance.choice(captions), chance.randint(1, 5)
                    answer = client.put(f"/v1/captions/{caption_id}/rating", json={"stars": stars})
                    if answer.status_code == 200:
                        acknowledged.append((caption_id, client.cookies["captionloop_rater"], stars))
        except httpx.HTTPError:
            return

    people = [threading.Thread(target=person, args=(number,)) for number in range(16)]
    for each in people:
        each.start()
    time.sleep(4)
    service.kill()
    for each in people:
        each.join()

    store = RatingsStore(f"sqlite:///{folder / 'state/ratings.db'}")
    lost = [
        (caption_id, stars)
        for caption_id, cookie, stars in acknowledged
        if (rating := store.rating(caption_id, "person:" + sha256(cookie.encode()).hexdigest()[:32])) is None
        or rating.stars != stars
    ]
    assert acknowledged and lost == []
    assert len(acknowledged) <= statistics(store.reader, 1).totals.ratings <= len(acknowledged) + 16
    store.close()


def test_sigterm_turns_readiness_off_finishes_what_is_under_way_and_exits(
    folder: Path, bundles: list[Path]
) -> None:
    service = ServiceProcess(folder, CAPTIONLOOP_MODEL=str(bundles[0])).wait_until_ready()
    data = photo()
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as upload:
        upload.sendall(
            b"POST /v1/captions HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
            + f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data[:100]
        )
        time.sleep(0.5)
        service.terminate()
        began = time.monotonic()
        readiness = 200
        while readiness == 200 and time.monotonic() - began < 5:
            readiness = httpx.get(f"{service.url}/readyz", timeout=5).status_code
        assert readiness == 503
        time.sleep(2)
        upload.sendall(data[100:])
        answer = upload.recv(65_536)
    assert b" 201 " in answer.split(b"\r\n")[0]
    assert service.wait(15) == 0
    assert time.monotonic() - began < 15
