"""What the tests of the loop do from outside: people who rate, and a look at the step that is running."""

import contextlib
import time
from pathlib import Path

import psutil
from service_process import ServiceProcess

from captionloop.client import CaptionClient
from captionloop.corpus.scenes import SceneParameters, draw_scenes
from captionloop.ratings.api_keys import ApiKeyStore
from captionloop.ratings.rating_store import RatingsStore

RATERS, EACH = 6, 5


def rate(service: ServiceProcess, seed: int) -> None:
    """People with keys, whom curation believes, send scenes of another world, and say what is on them."""
    rate_with(service.url, made_keys(f"sqlite:///{service.state}/ratings.db", seed), seed)


def made_keys(database: str, seed: int) -> list[str]:
    """A key for each of the people."""
    store = RatingsStore(database)
    try:
        keys = ApiKeyStore(store)
        return [keys.create(f"rater {seed} {number}", ["caption", "rate"])[1] for number in range(RATERS)]
    finally:
        store.close()


def rate_with(url: str, keys: list[str], seed: int) -> None:
    """Each sends scenes, and says what is on them."""
    parameters = SceneParameters(domain="shifted", train=len(keys) * EACH, val=0, test=0, seed=seed)
    scenes = draw_scenes(parameters)
    for key in keys:
        with CaptionClient(url, key=key) as person:
            for _ in range(EACH):
                scene = next(scenes)
                made = person.caption(scene.photo)
                person.rate(made.caption_id, 2, correction=scene.captions[0])


def running_kedro(pipeline: str, project: Path, seconds: float = 600) -> psutil.Process:
    """The first `kedro run` of this pipeline in this project that is seen, some seconds into it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if pipeline in line and line[0].endswith(("python", "kedro")) and _is_in(process, project):
                time.sleep(3)
                return process
        time.sleep(0.2)
    raise AssertionError(f"{pipeline} was not run")


def _is_in(process: psutil.Process, project: Path) -> bool:
    with contextlib.suppress(psutil.Error):  # it has ended
        return Path(process.cwd()) == project.resolve()
    return False
