"""A retraining whose steps run on two machines that share object storage, a database and MLflow, and no disk.

Each machine is a copy of the project in a folder of its own, with temporary files of its own.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from loop_traffic import rate
from servers import new_database
from service_process import ServiceProcess
from shared_storage import BUCKET, KEYS, Server, mlflow, object_storage, storage_of, until
from small_project import BIN, SmallProject

from captionloop.registry.model_registry import ModelRegistry

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]
WORKSPACE = f"s3://{BUCKET}/data"
RUN = f"{WORKSPACE}/runs/one"
STEP = f"workspace={RUN},mlflow_run=one,least_ratings=10,epochs=3,decoders=1"


class Machine:
    """A project in a folder, which keeps nothing in it."""

    def __init__(self, folder: Path, shared: dict[str, str]) -> None:
        self.project = SmallProject(folder)
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

    def kept(self) -> list[str]:
        """What lies in its folder of data and among its temporary files, but for notes that save time."""
        found = [*(self.project.folder / "data").rglob("*"), *(self.project.folder / "tmp").iterdir()]
        names = [path.relative_to(self.project.folder) for path in found if path.is_file() or path.is_dir()]
        return sorted(str(name) for name in names if ".provenance" not in name.parts)


def ended(process: subprocess.Popen[str]) -> str:
    import time  # TRACE

    b = time.time()  # TRACE
    said, _ = process.communicate(timeout=600)
    print(f"TRACE {time.time() - b:.1f} s", process.args[1:6], flush=True)  # TRACE
    assert process.returncode == 0, said[-4000:]
    return said


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
    ended(machine.begin("__default__", "decoders=1", "--to-nodes", "choose_evaluation_photos,find_concepts"))
    known = ModelRegistry(registry.url)
    known.promote(known.register(bundle).version)


def test_two_machines_complete_a_retraining(
    storage: Server, registry: Server, shared: dict[str, str], bundles: list[Path], tmp_path: Path
) -> None:
    files = storage_of(storage.url)
    one, other = Machine(tmp_path / "one", shared), Machine(tmp_path / "other", shared)
    crown(one, registry, bundles[0])
    one.run("captionloop", "database", "upgrade")
    service = ServiceProcess(
        tmp_path / "service", **{**shared, "CAPTIONLOOP_REGISTRY": registry.url, "MLFLOW_TRACKING_URI": ""}
    )
    try:
        rate(service.wait_until_ready(), seed=1)
    finally:
        service.stop()

    ended(one.begin("feedback"))
    enough = json.loads(other.run("captionloop", "outcome", "feedback", "--workspace", RUN).splitlines()[-1])
    assert enough["enough"] and enough["page"].startswith(f"{RUN}/08_reporting/sample_scenes/")

    ended(other.begin("retraining_encoder"))
    for process in [
        machine.begin("retraining_caching", f"{STEP},shard={number}/2")
        for number, machine in enumerate((one, other), start=1)
    ]:
        ended(process)

    # The first machine goes away in the midst of teaching, after a whole epoch.
    teaching = one.begin("retraining_training")
    checkpoint = f"{RUN.removeprefix('s3://')}/06_models/sample_scenes/retrained.work"
    until(
        lambda: any(path.endswith("last.ckpt") for path in files.find(checkpoint)), 300, "no epoch is stored"
    )
    os.killpg(teaching.pid, signal.SIGKILL)
    teaching.wait()
    said = ended(other.begin("retraining_training"))
    assert "Training goes on from" in said or "was finished before" in said
    assert "was left behind by" in said, "its lease is not waited for: one machine plays both here"

    ended(one.begin("retraining_evaluation"))
    ended(other.begin("retraining_registration"))
    told = json.loads(one.run("captionloop", "outcome", "gate", "--workspace", RUN).splitlines()[-1])
    assert told["version"] == 2 and told["markdown"]
    one.run("captionloop", "models", "promote", "2")
    champion = ModelRegistry(registry.url).champion()
    assert champion is not None and champion.version == 2
    assert one.kept() == other.kept() == [], "nothing but the storage has what a step made"

    # Steps that have been done are seen to be, from anywhere.
    assert "Nothing to do" in ended(one.begin("retraining_training"))

    # What somebody asks to be forgotten goes from runs in the storage, too.
    rated = f"{RUN}/02_intermediate/sample_scenes/ratings.parquet"
    with files.open(rated) as file:
        rater = pd.read_parquet(file)["rater"].iloc[0]
    with suppress(AssertionError):  # something remains: the run may have a next step
        one.run("captionloop", "erase", "--rater", rater)
    other.run("captionloop", "reconcile", "--workspace", RUN)
    assert not files.exists(rated) and files.exists(f"{RUN}/06_models/sample_scenes/candidate/config.json")
    assert "folders of runs  gone" in one.run("captionloop", "erased", rater)


def test_two_that_do_the_same_take_turns(storage: Server, shared: dict[str, str], tmp_path: Path) -> None:
    """The second finds that the first has done it."""
    one, other = Machine(tmp_path / "one", shared), Machine(tmp_path / "other", shared)
    place = f"workspace={WORKSPACE}/runs/two"
    said = [ended(process) for process in [each.begin("shifted_scenes", place) for each in (one, other)]]
    assert sorted("Nothing to do" in each for each in said) == [False, True]
