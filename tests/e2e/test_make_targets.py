"""Every target of the Makefile, as a person calls it: from a bare shell, in a terminal, ended by Ctrl-C.

One copy of the project with small numbers: `make demo` trains its champion once, and what follows goes on
from there. `TO_THE_END`, `SERVERS` and `INTERRUPTED` say which target is tried in which way;
tests/unit/test_makefile.py compares them with the Makefile.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow_process import AirflowProcess
from copied_project import ROOT, copy_project, merged
from loop_traffic import rate
from service_process import free_port, photo
from small_project import SMALL as SMALL_FILES
from terminal import Terminal
from test_documented_commands import SMALL as SMALL_TRAINING

from captionloop.client import CaptionClient
from captionloop.corpus.scenes import SceneParameters, draw_scenes
from captionloop.registry.model_registry import ModelRegistry

pytestmark = [pytest.mark.e2e, pytest.mark.named_use, pytest.mark.timeout(1800)]

TO_THE_END = (
    "help",
    "install",
    "install-airflow",
    "airflow-login",
    "demo",
    "page",
    "docs",
    "format",
    "sbom",
    "clean",
)
SERVERS = {"serve": "/readyz", "viz": "/", "mlflow": "/health", "airflow": "/api/v2/version"}
INTERRUPTED = {
    "flickr8k": "Running node",
    "loop-demo": "benchmarks.loop",
    "bench": "## extraction",
    "lint": "mypy",
    "lock": "uv pip compile",
    "test": "RUN",
    "unit": "RUN",
    "integration": "test session starts",
    "unit-avx2": "test session starts",
    "unit-some": "test session starts",
    "kills": "test session starts",
    "uses": "test session starts",
    "e2e": "test session starts",
    "e2e-service": "test session starts",
}
"""Targets that take minutes, and what they print when their work has begun."""

SMALL: dict[str, object] = dict(SMALL_TRAINING)
# As the tests of retraining have them: what is served must say different things of different photos, and the
# gate must let through what was taught for seconds.
for changes in SMALL_FILES.values():
    for name, change in changes.items():
        # A model's block stands in the place of the other: its decoder is as large as in `conf/base`.
        known = SMALL.get(name, {})
        SMALL[name] = {**known, **change} if name == "models" else merged(known, change)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ROOT / ".venv-airflow/bin/airflow").exists():
        pytest.skip("Airflow's environment is not installed (make install-airflow)")
    return copy_project(tmp_path_factory.mktemp("copy") / "project", SMALL)


@pytest.fixture
def make(project: Path, tmp_path: Path) -> Iterator:
    """Starts targets; what a test leaves running is killed."""
    started: list[Terminal] = []

    def start(target: str, *variables: str, **settings: str) -> Terminal:
        log = tmp_path / f"{target}.log"
        started.append(Terminal("make", target, *variables, folder=project, log=log, **settings))
        return started[-1]

    yield start
    for terminal in started:
        terminal.close()


def is_made(project: Path) -> None:
    if not (project / "mlflow.db").exists():
        pytest.skip("make demo made no model")


def karpathy_corpus(folder: Path) -> Path:
    """Photos and captions in the form in which Flickr8k comes."""
    (folder / "images").mkdir(parents=True)
    images = []
    for number, scene in enumerate(draw_scenes(SceneParameters(train=40, val=8, test=8))):
        (folder / "images" / scene.name).write_bytes(scene.photo)
        sentences = [{"raw": caption, "tokens": []} for caption in scene.captions]
        images.append({"filename": scene.name, "split": scene.split, "sentences": sentences, "imgid": number})
    (folder / "dataset_flickr8k.json").write_text(json.dumps({"dataset": "drawn", "images": images}))
    return folder


class AirflowInTerminal(AirflowProcess):
    """`make airflow`."""

    def __init__(self, make, project: Path, **settings: str) -> None:
        self._make = make
        super().__init__(project / ".airflow", project, **settings)

    def _start(self, environment: dict[str, str]) -> list:
        wanted = ("AIRFLOW_PORT", "CAPTIONLOOP_URL", "CAPTIONLOOP_RETRY_SECONDS")
        self.terminal = self._make("airflow", **{name: environment[name] for name in wanted})
        self.log = self.terminal.log
        return []

    def _is_ready(self) -> bool:
        assert self.terminal.read(0.1), self.terminal.text()[-4000:]
        return super()._is_ready()


@pytest.mark.parametrize("target", ["help", "install", "install-airflow", "page"])
def test_what_is_there_already_is_told_or_left(make, target: str) -> None:
    if target == "page" and not (ROOT / "frontend/dist").exists():
        pytest.skip("the web page is not built, as there is no Node.js here")
    output = make(target).finish()
    assert "Installing" not in output
    if target == "help":
        assert all(
            f"make {each} " in output for each in (*TO_THE_END, *SERVERS, *INTERRUPTED) if each != "help"
        )


def test_sbom_lists_what_the_locks_pin(make, project: Path) -> None:
    make("sbom").finish()
    for part in ("project", "pipelines", "airflow"):
        bill = json.loads((project / f"build/sbom/{part}.cdx.json").read_text())
        assert bill["bomFormat"] == "CycloneDX"
        pinned = (project / f"requirements/{part}.txt").read_text().count("==")
        assert abs(len(bill["components"]) - pinned) < pinned / 2
    assert not (project / "build/sbom/bento.cdx.json").exists(), "no Bento was built here"


def test_demo_runs_all_pipelines_to_a_champion(make, project: Path) -> None:
    output = make("demo").finish()
    assert "version 1" in output.lower()
    reports = project / "data/08_reporting/sample_scenes"
    assert "show_attend_tell" in json.loads((reports / "evaluation.json").read_text())["models"]
    champion = ModelRegistry(f"sqlite:///{project / 'mlflow.db'}").champion()
    assert champion is not None and champion.version == 1


@pytest.mark.parametrize("target", [name for name in SERVERS if name != "airflow"])
def test_a_server_answers_on_this_machine_alone_and_ends_with_ctrl_c(
    make, project: Path, target: str
) -> None:
    is_made(project)
    port = free_port()
    arguments = f"--port {port}" + (" --no-browser" if target == "viz" else "")
    running = make(target, f"ARGS={arguments}")
    running.wait_until_it_answers(f"http://127.0.0.1:{port}{SERVERS[target]}")
    if target == "serve":
        with CaptionClient(f"http://127.0.0.1:{port}") as anybody:
            assert anybody.caption(photo()).model.version == "1"
    assert {address for address, _ in running.listening()} <= {"127.0.0.1", "::1"}
    running.interrupt()


def test_airflow_retrains_and_promotes_and_ends_with_ctrl_c(make, project: Path) -> None:
    is_made(project)
    port = free_port()
    service = make("serve", f"ARGS=--port {port}", CAPTIONLOOP_FOLLOW_SECONDS="1")
    service.url, service.state = f"http://127.0.0.1:{port}", project / "data/service"
    airflow = AirflowInTerminal(make, project, CAPTIONLOOP_URL=service.url)
    service.wait_until_it_answers(f"{service.url}/readyz")
    rate(service, seed=1)
    airflow.wait_until_ready()
    run_id = airflow.trigger("retraining", least_ratings=10, epochs=1, shards=1, verify_seconds=0)
    airflow.switch_on("retraining")
    states = airflow.wait_for("retraining", run_id)
    run = airflow.run("retraining", run_id)
    assert run["state"] == "success", f"{states}\n{run['note']}"
    assert {state for name, state in states.items() if name != "rollback"} == {"success"}, run["note"]
    with CaptionClient(service.url) as anybody:
        assert anybody.caption(photo()).model.version == "2"
    assert {address for address, _ in airflow.terminal.listening()} == {"127.0.0.1"}
    airflow.terminal.interrupt()
    service.interrupt()


def test_airflow_with_a_step_under_way_ends_with_ctrl_c(make, project: Path) -> None:
    is_made(project)
    airflow = AirflowInTerminal(make, project, CAPTIONLOOP_URL="http://127.0.0.1:9").wait_until_ready()
    run_id = airflow.trigger("retraining", least_ratings=10)
    airflow.switch_on("retraining")
    airflow.wait_for_task("retraining", run_id, "feedback", "running")
    airflow.terminal.interrupt()


@pytest.mark.parametrize("target", [name for name in INTERRUPTED if name != "lock"])
def test_ctrl_c_ends_what_takes_minutes(make, project: Path, tmp_path: Path, target: str) -> None:
    variables: list[str] = []
    if target == "loop-demo":
        is_made(project)
    if target == "flickr8k":
        variables = [f"DATA={karpathy_corpus(tmp_path / 'photos')}", "WEIGHTS=none"]
    running = make(target, *variables)
    running.wait_for_text(INTERRUPTED[target])
    assert running.read(2.0), running.text()[-4000:]
    running.interrupt()


def test_docs_are_built_with_the_lineage_of_the_last_run(make, project: Path) -> None:
    make("docs").finish()
    assert (project / "site/index.html").is_file()
    assert (project / "site/lineage/index.html").is_file() and (project / "site/lineage/api/main").is_file()


def test_format_and_clean_leave_the_sources_as_they_are(make, project: Path) -> None:
    make("format").finish()
    make("clean").finish()
    assert not (project / "mlflow.db").exists() and not list((project / "data").glob("0[2-8]_*"))
    assert (project / "src/captionloop/cli.py").read_text() == (ROOT / "src/captionloop/cli.py").read_text()


def test_ctrl_c_ends_the_resolution_of_requirements(make) -> None:
    """The last: the requirements that it has written are newer than the environment."""
    sources = ("UV_", "PIP_", "SSL_CERT", "HTTP", "http", "NO_PROXY", "no_proxy")  # where packages come from
    running = make("lock", **{name: value for name, value in os.environ.items() if name.startswith(sources)})
    running.wait_for_text("pyproject.toml")
    assert running.read(1.0), running.text()[-4000:]
    running.interrupt()
