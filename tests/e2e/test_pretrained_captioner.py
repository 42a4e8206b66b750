"""A captioner that others have trained: compared, registered, taught on and served by real commands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_project import BIN, TINY, SmallProject

pytest.importorskip("transformers", reason="needs captionloop[transformers]")

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from tiny_pretrained import make_pretrained

from captionloop.captioner.bundle import read_config
from captionloop.captioner.captioner import Captioner

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def given(**more: object) -> str:
    changes = {
        name: value for name, value in TINY.items() if name.startswith(("sample", "evaluation", "regis"))
    }
    return ",".join(f"{name}={value}" for name, value in (changes | more).items())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> SmallProject:
    """A project with a corpus, and a model of somebody else's beside it."""
    made = SmallProject(tmp_path_factory.mktemp("project") / "project")
    make_pretrained("vision-encoder-decoder", made.folder / "somebodys")
    made.kedro("--pipelines", "sample_scenes", "--params", given())
    return made


def test_a_folder_becomes_a_version_by_one_command(project: SmallProject) -> None:
    predictions = project.folder / "data/07_model_output/sample_scenes"
    project.kedro("--env", "pretrained", "--params", given(captioner="somebodys"))
    assert (predictions / "pretrained/hypotheses.json").is_file()
    (version,) = project.registry.versions()
    assert version.lineage["base"] == "somebodys"
    assert version.passed_gate is not None
    bundle = project.registry.fetch(version.version, project.folder / "fetched")
    assert read_config(bundle).family == "pretrained"
    assert sum(file.stat().st_size for file in bundle.rglob("*")) < 2_000_000
    reports = project.folder / "data/08_reporting/sample_scenes/pretrained"
    assert set(json.loads((reports / "evaluation.json").read_text())["models"]) == {
        "pretrained", "pretrained.greedy",
    }  # fmt: skip
    for name in ("evaluation.md", "gallery.png", "gate.md", "MODEL_CARD.md"):
        assert (reports / name).stat().st_size


def test_it_is_taught_on_by_an_adaptation_and_stands_beside_our_own(
    project: SmallProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions = project.folder / "data/07_model_output/sample_scenes"
    own = json.loads((predictions / "pretrained/hypotheses.json").read_text())
    (predictions / "show_attend_tell").mkdir()
    (predictions / "show_attend_tell/hypotheses.json").write_text(
        json.dumps(own | {"model": "show_attend_tell"})
    )
    project.kedro("--env", "pretrained", "--params", given(captioner="somebodys", pretrained_epochs=2))
    report = project.folder / "data/08_reporting/sample_scenes/pretrained/evaluation.json"
    assert set(json.loads(report.read_text())["models"]) == {
        "pretrained", "pretrained.greedy", "show_attend_tell", "show_attend_tell.greedy",
    }  # fmt: skip
    versions = project.registry.versions()
    assert len(versions) == 2
    monkeypatch.chdir(project.folder / "data")  # the base was given as a path in the project
    trained = Captioner.load(project.folder / "data/06_models/sample_scenes/pretrained")
    assert all("lora_" in name for name in trained.decoder.state_dict())
    assert trained.lineage["parent"]["name"] == "pretrained"


def test_without_a_model_one_line_says_what_to_give(project: SmallProject) -> None:
    done = subprocess.run(
        [str(BIN / "kedro"), "run", "--env", "pretrained"],
        cwd=project.folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "--params captioner=" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout
