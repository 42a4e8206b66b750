"""Another champion takes over while people are being served."""

import threading
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from service_process import ServiceProcess, photo, serve, version

pytestmark = [pytest.mark.e2e, pytest.mark.service]

SWAPS = 20


def loaded(service: ServiceProcess) -> float:
    """How many times a model was loaded so far."""
    lines = httpx.get(f"{service.url}/metrics", timeout=30).text.splitlines()
    count = next(line for line in lines if line.startswith("captionloop_model_load_seconds_count"))
    return float(count.split()[-1])


def test_twenty_swaps_under_load_fail_no_request(
    service: ServiceProcess, champion: Path, bundles: list[Path]
) -> None:
    answers: Counter[tuple[int, str]] = Counter()
    stop = threading.Event()

    def person(seed: int) -> None:
        with httpx.Client(base_url=service.url, timeout=60) as client:
            while not stop.is_set():
                answer = client.post("/v1/captions", files={"image": photo(seed, size=(64, 64))})
                made_by = answer.json().get("model", {}).get("version", "?")
                answers[answer.status_code, made_by] += 1

    loads = loaded(service)
    people = [threading.Thread(target=person, args=(seed,)) for seed in range(8)]
    for each in people:
        each.start()
    seen = [version(service)]
    try:
        for swap in range(1, SWAPS + 1):
            # Every second one goes back to the model before, as a rollback does.
            serve(champion, bundles[0 if swap % 2 == 0 else 1 + swap // 2 % 2])
            deadline = time.monotonic() + 60
            while version(service) == seen[-1] and time.monotonic() < deadline:
                time.sleep(0.05)
            seen.append(version(service))
    finally:
        stop.set()
        for each in people:
            each.join()
        serve(champion, bundles[0])
    assert len(seen) == SWAPS + 1 and all(one != other for one, other in pairwise(seen))
    assert loaded(service) - loads == SWAPS / 2, "going back loads nothing"
    assert {status for status, _ in answers} == {201}, answers
    assert {made_by for _, made_by in answers} == set(seen)


def test_a_damaged_bundle_changes_nothing(
    service: ServiceProcess, champion: Path, bundles: list[Path], tmp_path: Path
) -> None:
    deadline = time.monotonic() + 60
    before = version(service)
    while time.monotonic() < deadline and version(service) != before:
        before = version(service)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in bundles[0].iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    weights = bytearray((damaged / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (damaged / "model.safetensors").write_bytes(bytes(weights))
    serve(champion, damaged)
    try:
        for _ in range(40):
            failures = [
                line
                for line in httpx.get(f"{service.url}/metrics").text.splitlines()
                if line.startswith("captionloop_model_load_failures_total ") and not line.endswith(" 0.0")
            ]
            if failures:
                break
            time.sleep(0.25)
        assert failures
        answer = httpx.post(f"{service.url}/v1/captions", files={"image": photo()}, timeout=60)
        assert answer.status_code == 201
    finally:
        serve(champion, bundles[0])
