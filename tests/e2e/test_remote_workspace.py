"""A retraining whose steps run on two machines that share object storage, a database and MLflow, and no disk.

Each machine is a copy of the project in a folder of its own, with temporary files of its own.
"""

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import new_database
from shared_storage import BUCKET, KEYS, Server, mlflow, object_storage, storage_of, until
from small_project import BIN, SmallProject

from captionloop.corpus.scenes import SceneParameters, draw_scenes
from captionloop.photos import PhotoArchive
from captionloop.ratings.database import upgrade
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import PhotoFacts, RatingInput, ServedCaption
from captionloop.registry.model_registry import ModelRegistry

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
WORKSPACE = f"s3://{BUCKET}/data"
RUN = f"{WORKSPACE}/runs/one"
STEP = f"workspace={RUN},mlflow_run=one,least_ratings=10,epochs=30,decoders=1"


class Machine:
    """A project in a folder, which keeps nothing in it."""

    def __init__(self, folder: Path, shared: dict[str, str]) -> None:
        self.project = SmallProject(folder)
        self.project.change(
            "parameters_sample_scenes.yml", {"sample_scenes": {"train": 60, "val": 12, "test": 12}}
        )
        (folder / "tmp").mkdir()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CAPTIONLOOP_")}
        self.environment = {
            **inherited, **shared, "TMPDIR": str(folder / "tmp"), "KEDRO_DISABLE_TELEMETRY": "1",
            "GX_ANALYTICS_ENABLED": "false", "COLUMNS": "400",
        }  # fmt: skip

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(BIN / command[0]), *command[1:]], cwd=self.project.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def begin(self, pipelines: str, parameters: str = STEP, *more: str) -> subprocess.Popen[str]:
        return self.start(
            "kedro", "run", "--only-missing-outputs", "--pipelines", pipelines, "--params", parameters, *more
        )

    def run(self, *command: str) -> str:
        return ended(self.start(*command))

    def kept(self) -> set[str]:
        """What lies in its folder of data and among its temporary files, but for what only saves time."""
        folder = self.project.folder
        found = [*(folder / "data").iterdir(), *(folder / "tmp").iterdir()]
        names = {path.relative_to(folder).as_posix() for path in found}
        return names - {"data/.provenance", "tmp/captionloop-features"}


def ended(process: subprocess.Popen[str]) -> str:

    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-4000:]
    return output


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = object_storage(tmp_path_factory.mktemp("storage"))
    try:
        storage_of(server.wait_until_ready().url).mkdir(BUCKET)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def registry(storage: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = mlflow(tmp_path_factory.mktemp("mlflow"), storage.url)
    try:
        yield server.wait_until_ready()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def shared(storage: Server, registry: Server, postgres: str) -> dict[str, str]:
    """What both machines are told."""
    return {
        **KEYS, "AWS_ENDPOINT_URL": storage.url, "MLFLOW_TRACKING_URI": registry.url,
        "CAPTIONLOOP_WORKSPACE": WORKSPACE, "CAPTIONLOOP_PHOTOS": f"s3://{BUCKET}/photos",
        "CAPTIONLOOP_DATABASE": new_database(postgres, "ratings"),
    }  # fmt: skip


def crown(machine: Machine, registry: Server, bundle: Path) -> None:
    """A corpus is checked on one machine, and a model that nobody taught becomes the champion."""
    ended(
        machine.begin(
            "__default__",
            "decoders=1",
            "--to-nodes",
            "evaluation.choose_evaluation_photos,encoder_adaptation.find_concepts",
        )
    )
    known = ModelRegistry(registry.url)
    known.promote(known.register(bundle).version)


def people_rate(database: str, photos: str) -> None:
    """What a service leaves behind in database and archive, of people with keys: whom curation believes."""
    upgrade(database)
    store, archive = RatingsStore(database), PhotoArchive(photos)
    words = [{"text": "a", "confidence": 0.5, "attention": [[1.0]]}]
    scenes = draw_scenes(SceneParameters(domain="shifted", train=30, val=0, test=0, seed=1))
    try:
        for number, scene in enumerate(scenes):
            sha256, rater = hashlib.sha256(scene.photo).hexdigest(), f"key:{number // 5}"
            archive.write(sha256, scene.photo)
            facts = PhotoFacts(sha256, "image/jpeg", len(scene.photo), 128, 128)
            served = ServedCaption(f"c{number}", rater, facts, "a dog", 0.5, words, [], "captioner", "1")
            store.record(served).result(30)
            store.rate(f"c{number}", rater, RatingInput(2, scene.captions[0])).result(30)
    finally:
        store.close()


def test_two_machines_complete_a_retraining(
    storage: Server, registry: Server, shared: dict[str, str], bundles: list[Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    files = storage_of(storage.url)
    one, other = Machine(tmp_path / "one", shared), Machine(tmp_path / "other", shared)
    crown(one, registry, bundles[0])
    for name in (*KEYS, "AWS_ENDPOINT_URL"):
        monkeypatch.setenv(name, shared[name])
    people_rate(shared["CAPTIONLOOP_DATABASE"], shared["CAPTIONLOOP_PHOTOS"])

    ended(one.begin("feedback,retraining_encoder"))
    enough = json.loads(other.run("captionloop", "outcome", "feedback", "--workspace", RUN).splitlines()[-1])
    assert enough["enough"] and enough["page"].startswith(f"{RUN}/08_reporting/sample_scenes/")

    for process in [
        machine.begin("retraining_caching", f"{STEP},shard={number}/2")
        for number, machine in enumerate((one, other), start=1)
    ]:
        ended(process)

    # The first machine goes away in the midst of teaching, after a whole epoch.
    teaching = one.begin("retraining_training")
    checkpoint = f"{RUN.removeprefix('s3://')}/06_models/sample_scenes/retrained.work"

    def stored() -> bool:
        kept = any(path.endswith("last.ckpt") for path in files.find(checkpoint))
        assert kept or teaching.poll() is None, teaching.communicate()[0][-4000:]
        return kept

    until(stored, 600, "nothing is stored")
    os.killpg(teaching.pid, signal.SIGKILL)
    teaching.wait()
    output = ended(other.begin("retraining_training"))
    assert "was left behind by" in output, "its lease is not waited for: one machine plays both here"
    assert "Training goes on from" in output or "was finished before" in output

    ended(one.begin("retraining_evaluation,retraining_registration"))
    report = json.loads(other.run("captionloop", "outcome", "gate", "--workspace", RUN).splitlines()[-1])
    assert report["version"] == 2 and report["markdown"]
    other.run("captionloop", "models", "promote", "2", "--gated")
    champion = ModelRegistry(registry.url).champion()
    assert champion is not None and champion.version == 2
    # Not even what the process that was killed had fetched.
    assert one.kept() | other.kept() <= {"data/service"}, "nothing but the storage has what a step made"

    # What somebody asks to be forgotten goes from runs in the storage, too.
    rated = f"{RUN}/02_intermediate/sample_scenes/ratings.parquet"
    assert files.exists(rated)
    one.start("captionloop", "erase", "--rater", "key:1").wait(300)
    other.run("captionloop", "reconcile", "--workspace", RUN)
    assert not files.exists(rated) and files.exists(f"{RUN}/06_models/sample_scenes/candidate/config.json")
    assert "folders of runs  gone" in one.run("captionloop", "erased", "key:1")


def test_two_that_do_the_same_take_turns(storage: Server, shared: dict[str, str], tmp_path: Path) -> None:
    """The second finds that the first has done it."""
    one, other = Machine(tmp_path / "one", shared), Machine(tmp_path / "other", shared)
    place = f"workspace={WORKSPACE}/runs/two"
    outputs = [ended(process) for process in [each.begin("shifted_scenes", place) for each in (one, other)]]
    assert sorted("Nothing to do" in each for each in outputs) == [False, True]
