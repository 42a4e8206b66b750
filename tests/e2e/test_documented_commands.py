"""The documentation's commands are run as they stand, in a copy of the project with a tiny corpus.

Blocks that begin with ```sh title="tested" are run, page by page, in one shell for each page; what a page
starts in the background ends with it. `tutorial/first-loop.md` is first: the model that it makes serves the
others. Only sizes are changed: the numbers in `conf/base` of the copy.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from copied_project import ROOT, copy_project

DOCS = ROOT / "docs"
TESTED = re.compile(r'^```sh title="tested"\n(.*?)^```', re.DOTALL | re.MULTILINE)
FIRST = DOCS / "tutorial/first-loop.md"
PAGES = [
    FIRST,
    *sorted(page for page in DOCS.rglob("*.md") if page != FIRST and TESTED.search(page.read_text())),
]

SMALL: dict[str, object] = {
    "sample_scenes": {"train": 60, "val": 12, "test": 12},
    "shifted_scenes": {"train": 40, "val": 8, "test": 8},
    "encoder_adaptation": {"epochs": 1, "concepts": {"minimum_images": 4, "maximum": 20}},
    "feature_caching": {"views": ["whole"]},
    "models": {
        "show_and_tell_by_words": {"epochs": 1, "decoder": {"embedding": 32, "hidden": 32}},
        "show_attend_tell": {"epochs": 1, "decoder": {"embedding": 32, "hidden": 32}},
        "show_and_tell": {"epochs": 1, "samples": 2, "batch_size": 60},
        "self_critical": {"epochs": 1, "samples": 2, "batch_size": 60},
    },
    "evaluation": {"resamples": 20, "latency": {"photos": 2, "batch": 4, "batches": 1}},
    # So small a model says nothing sensible, and is to be served all the same.
    "registration": {
        "timed_photos": 2,
        "gate": {
            "resamples": 200,
            "floors": {"cider": 1e-6, "words": 1, "captions": 1e-6, "shortest": 1.0, "longest": 99.0},
        },
    },
}

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project as it is in git, with this environment and small numbers."""
    copy = copy_project(tmp_path_factory.mktemp("project"), SMALL)
    yield copy
    shutil.rmtree(copy, ignore_errors=True)


def run(script: str, project: Path) -> tuple[int, str]:
    """Runs a page's commands in one shell; ends whatever it left running."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CAPTIONLOOP_")}
    environment["PATH"] = f"{project / '.venv/bin'}:{environment['PATH']}"
    environment["KEDRO_DISABLE_TELEMETRY"] = "1"
    output = project / "output.log"
    with output.open("w") as file:
        shell = subprocess.Popen(
            ["bash", "-c", "set -exuo pipefail\n" + script],
            cwd=project,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = shell.wait(timeout=540)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)
    return code, output.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_commands_of_a_page_work_as_written(page: Path, project: Path) -> None:
    if page != FIRST and not (project / "mlflow.db").exists():
        pytest.skip("the first page made no model")
    code, output = run("\n".join(TESTED.findall(page.read_text())), project)
    assert code == 0, f"{page.relative_to(ROOT)}:\n{output[-4000:]}"
