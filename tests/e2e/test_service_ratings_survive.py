"""Ratings from 16 writers, the process killed at random moments: every acknowledged one is there, none twice.

A thousand ratings by default; `CAPTIONLOOP_TEST_RATINGS=10000` makes it the ten thousand of the claim.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from captionloop.ratings.database import open_reader, upgrade
from captionloop.ratings.rating_tables import Rating

pytestmark = [pytest.mark.e2e, pytest.mark.service]

RATINGS = int(os.environ.get("CAPTIONLOOP_TEST_RATINGS", "1000"))
KILLS = 3
WRITER = """
import os, sys, threading
from captionloop.ratings.rating_tables import RatingInput, PhotoFacts, ServedCaption
from captionloop.ratings.rating_store import RatingsStore

url, name, log = sys.argv[1:]
store = RatingsStore(url)
served = ServedCaption(name, "key:a", PhotoFacts("0" * 64, "image/png", 1, 1, 1), "a", 0.5, [], [], "m", "1")
store.record(served).result()
acknowledged = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
print("ready", flush=True)

def write(writer):
    for number in range(100_000):
        stars = 1 + (number + writer) % 5
        rater = f"{writer}-{number // 2}"  # each rates twice: the second replaces the first
        store.rate(name, rater, RatingInput(stars)).result()
        os.write(acknowledged, f"{name} {rater} {stars}\\n".encode())

for writer in range(16):
    threading.Thread(target=write, args=(writer,), daemon=True).start()
threading.Event().wait()
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_acknowledged_rating_is_there_and_none_twice(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path / 'ratings.db'}" if kind == "sqlite" else request.getfixturevalue("postgres")
    upgrade(url)
    log = tmp_path / "acknowledged"
    log.touch()
    chance = random.Random(0)
    killed = 0
    while killed < KILLS or len(log.read_bytes().splitlines()) < RATINGS:
        command = [sys.executable, "-c", WRITER, url, f"caption-{killed}", str(log)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
            time.sleep(chance.uniform(0.5, 3.0))
            writer.kill()
        killed += 1
    wanted: dict[tuple[str, str], int] = {}
    for line in log.read_text().splitlines():
        name, rater, stars = line.split()
        wanted[name, rater] = int(stars)
    engine = open_reader(url)
    with Session(engine) as session:
        found = {(row.caption_id, row.rater): row.stars for row in session.scalars(select(Rating))}
        count = session.scalar(select(func.count()).select_from(Rating))
    engine.dispose()
    assert count == len(found), "no rating twice"
    lost = [key for key in wanted if key not in found]
    assert lost == [], f"{len(lost)} of {len(wanted)} lost"
    # A rater's second rating may have been written and not yet acknowledged when the process was killed.
    changed = [key for key, stars in wanted.items() if found[key] != stars]
    assert len(changed) <= 16 * killed
