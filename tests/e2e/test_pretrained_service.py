"""Captioners that others have trained in a real service: swapped under load, and packaged."""

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from service_process import ServiceProcess, make_bundle, photo, serve, version
from test_service_package import served_alone

pytest.importorskip("transformers", reason="needs captionloop[transformers]")

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from tiny_pretrained import make_pretrained, randomize_adapter

from captionloop.captioner.model_config import DecodingOptions, LoraOptions
from captionloop.captioner.pretrained.pretrained_family import open_captioner
from captionloop.serving.bento import package_bento

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

DECODING = DecodingOptions(beam_width=3, alternatives=2, max_length=6)
CLIENTS = 32


class Response(NamedTuple):
    """What one client got, and when."""

    at: float
    status: int
    version: str
    caption: str
    words: str


@contextmanager
def asked_by(clients: int, service: ServiceProcess) -> Iterator[list[Response]]:
    """Clients that ask for one caption after the other, and what they got so far."""
    answers: list[Response] = []
    stop = threading.Event()

    def person(seed: int) -> None:
        # A connection for each: one that is kept is closed when its client, on a busy machine, idles for 5 s.
        once = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=service.url, timeout=60, limits=once) as client:
            while not stop.is_set():
                answer = client.post("/v1/captions", files={"image": photo(seed, size=(64, 64))})
                body = answer.json()
                words = " ".join(word["text"] for word in body.get("words", ()))
                made_by = body.get("model", {}).get("version", "?")
                answers.append(
                    Response(time.monotonic(), answer.status_code, made_by, body.get("caption", ""), words)
                )

    people = [threading.Thread(target=person, args=(seed,)) for seed in range(clients)]
    for each in people:
        each.start()
    try:
        yield answers
    finally:
        stop.set()
        for each in people:
            each.join()


def of_loads(service: ServiceProcess, what: str) -> float:
    """The `count` of loaded models, or the `sum` of the seconds that loading took."""
    lines = httpx.get(f"{service.url}/metrics", timeout=60).text.splitlines()
    name = f"captionloop_model_load_seconds_{what}"
    return float(next(line for line in lines if line.startswith(name)).split()[-1])


def test_families_and_adapters_are_swapped_under_thirty_two_clients(tmp_path: Path) -> None:
    model = make_pretrained("vision-encoder-decoder", tmp_path / "somebodys")
    bundles = {"ours": make_bundle(tmp_path / "ours")}
    for seed, name in enumerate(("first", "second")):
        captioner = open_captioner(str(model), "theirs", DECODING, lora=LoraOptions(rank=2))
        randomize_adapter(captioner, seed=seed)
        captioner.save(tmp_path / name)
        bundles[name] = tmp_path / name
    link = tmp_path / "champion"
    link.symlink_to(bundles["ours"])
    service = ServiceProcess(
        tmp_path / "service",
        CAPTIONLOOP_MODEL=str(link),
        CAPTIONLOOP_CAPTIONS_AT_ONCE="128",
        CAPTIONLOOP_CAPTIONS_AT_ONCE_PER_CALLER="128",
    )
    swaps: list[tuple[str, float, float, float]] = []
    try:
        service.wait_until_ready()
        versions = {"ours": version(service)}
        with asked_by(CLIENTS, service) as answers:
            # The second `first` is a rollback, and so is the last `first`, to the other adapter.
            for name in ("first", "ours", "first", "second", "first"):
                served, loads, count = version(service), of_loads(service, "sum"), of_loads(service, "count")
                time.sleep(1)
                began = time.monotonic()
                serve(link, bundles[name])
                while version(service) == served and time.monotonic() < began + 120:
                    time.sleep(0.02)
                versions.setdefault(name, version(service))
                assert version(service) == versions[name] != served
                time.sleep(1)
                moments = sorted(answer.at for answer in answers if answer.at > began - 1)
                pause = max(after - before for before, after in pairwise(moments))
                loading = of_loads(service, "sum") - loads
                swaps.append((name, of_loads(service, "count") - count, loading, pause))
    finally:
        service.stop()
    for name, count, loading, pause in swaps:
        print(f"-> {name}: {count:.0f} loaded in {loading:.2f} s, {pause:.2f} s without an answer at most")
    assert {answer.status for answer in answers} == {201}
    assert {answer.version for answer in answers} == set(versions.values())
    assert all(answer.caption and answer.caption == answer.words for answer in answers)
    assert [count for _, count, _, _ in swaps] == [1, 0, 0, 1, 0], "going back loads nothing"
    adapters = swaps[3:]
    assert max(pause for *_, pause in adapters) < 1


def test_a_bento_that_carries_the_base_captions_where_the_folder_is_gone(
    tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_pretrained("git", tmp_path / "somebodys")
    lora = LoraOptions(rank=2)
    open_captioner(str(model), "theirs", DECODING, lora=lora, carries_base=True).save(tmp_path / "theirs")
    shutil.rmtree(model)
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentos"))
    bento = tmp_path / "bento"
    package_bento(tmp_path / "theirs", version="7", project=project_root, output=bento)
    asked = (bento / "env/python/requirements.txt").read_text()
    assert "transformers==" in asked and "peft==" in asked
    with served_alone(bento, tmp_path, project_root) as url:
        answer = httpx.post(f"{url}/v1/captions", files={"image": photo(3)}, timeout=60)
        assert answer.status_code == 201 and answer.json()["caption"]
        assert answer.json()["model"] == {"name": "theirs", "version": "7"}
