"""Caching is killed with SIGKILL at random moments, and ends in the features of an unbroken run."""

import json
import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from captionloop.vision.feature_store import FeatureStore

PROGRAM = Path(__file__).with_name("caching_process.py")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def start(folder: Path, shard: str = "1/1", engine: str = "in_process") -> "subprocess.Popen[str]":
    command = [sys.executable, str(PROGRAM), str(folder), shard, engine]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )


def result(process: "subprocess.Popen[str]") -> dict[str, object]:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    return json.loads(output.splitlines()[-1])


def commits(folder: Path) -> int:
    return len(list((folder / "store").glob("*.lance/_versions/*.manifest")))


def whole_features(folder: Path) -> int:
    """How many there are, each of which has been read and fits its checksum."""
    store, count = FeatureStore(folder / "store"), 0
    for table in store.tables():
        reader = store.reader(table.fingerprint)
        photos = list(reader)
        assert len(reader.grids(photos)) == len(reader.means(photos)) == len(photos)
        count += len(photos)
    return count


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return result(start(tmp_path_factory.mktemp("unbroken")))


@pytest.mark.e2e
def test_killed_caching_ends_as_if_it_had_not_been_killed(
    unbroken: dict[str, object], tmp_path: Path
) -> None:
    chance, kept, kills = random.Random(0), 0, 0
    while kills < 4:
        process = start(tmp_path)
        wanted = commits(tmp_path) + chance.randint(1, 8)
        while process.poll() is None and commits(tmp_path) < wanted:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.02))  # while encoding, or while the next file is being written
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        kills += 1
        there = whole_features(tmp_path)
        assert there >= kept, "what was written before a kill must stay"
        kept = there
    assert kills >= 2
    finished = result(start(tmp_path))
    assert finished["features"] == unbroken["features"]
    assert 0 < int(str(finished["encoded"])) < int(str(unbroken["encoded"])), "finished work was done again"


@pytest.mark.e2e
def test_workers_that_run_at_once_make_what_one_makes_alone(
    unbroken: dict[str, object], tmp_path: Path
) -> None:
    workers = [start(tmp_path, f"{index}/3") for index in (1, 2, 3)]
    results = [result(worker) for worker in workers]
    assert sum(int(str(each["encoded"])) for each in results) == unbroken["encoded"]
    assert result(start(tmp_path)) == {**unbroken, "encoded": 0}


def ray_workers(job: int) -> list[psutil.Process]:
    """The processes in which the job's actors encode."""
    workers = []
    for each in psutil.Process(job).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # Ray's short ones end while they are looked at
            if "MapWorker" in " ".join(each.cmdline()):
                workers.append(each)
    return workers


@pytest.mark.e2e
def test_a_ray_worker_that_is_killed_leaves_the_store_as_one_process_makes_it(
    unbroken: dict[str, object], tmp_path: Path
) -> None:
    process, chance = start(tmp_path, engine="ray"), random.Random(0)
    wanted, killed = 3, 0
    while process.poll() is None and killed < 2:
        if commits(tmp_path) >= wanted and (workers := ray_workers(process.pid)):
            with suppress(psutil.NoSuchProcess):
                chance.choice(workers).kill()
                killed += 1
                wanted = commits(tmp_path) + 4
        time.sleep(0.01)
    found = result(process)
    assert killed >= 1
    assert found == unbroken


@pytest.mark.e2e
def test_a_ray_job_that_is_killed_goes_on_from_what_is_stored(
    unbroken: dict[str, object], tmp_path: Path
) -> None:
    process = start(tmp_path, engine="ray")
    while process.poll() is None and commits(tmp_path) < 4:
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    for each in family:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    kept = whole_features(tmp_path)
    finished = result(start(tmp_path, engine="ray"))
    assert finished == {**unbroken, "encoded": int(str(unbroken["encoded"])) - kept}
