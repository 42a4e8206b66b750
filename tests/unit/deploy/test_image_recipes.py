"""The images' recipes, as far as can be told without building; `e2e/test_images_run.py` has the rest."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILES = sorted((ROOT / "deploy/images").glob("*/Dockerfile"))
BUILT = ("build/bento", "frontend/dist")
"""What is copied into images and is not in git."""

dockerfile = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.parent.name)


def instructions(file: Path) -> list[str]:
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    return [line for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines() if line.strip()]


def locked(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text()
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", lines, re.MULTILINE))


def needed(extras: list[str]) -> set[str]:
    """The names of the packages that the project asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in _extra(project, extra))]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def _extra(project: dict, name: str) -> list[str]:
    return project["optional-dependencies"][name]


def test_there_are_recipes() -> None:
    assert {file.parent.name for file in DOCKERFILES} == {"service", "frontend", "pipelines", "airflow"}


@dockerfile
def test_the_user_is_a_number_other_than_root_s(dockerfile: Path) -> None:
    """Kubernetes' `runAsNonRoot` refuses a user that is given by name."""
    last = [line for line in instructions(dockerfile) if line.split()[0] in {"FROM", "USER"}][-1]
    assert re.fullmatch(r"USER [1-9]\d*:\d+", last)


@dockerfile
def test_no_compiler_is_installed_at_any_stage(dockerfile: Path) -> None:
    installs = " ".join(line for line in instructions(dockerfile) if "apt-get install" in line)
    assert not re.search(r"\b(gcc|g\+\+|clang|build-essential|cmake|make|python3[.\d]*-dev)\b", installs)


@dockerfile
def test_what_is_copied_is_there_and_let_through(dockerfile: Path) -> None:
    """`.dockerignore` lets nothing through that it does not name."""
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    for line in instructions(dockerfile):
        words = [word for word in line.split()[1:-1] if not word.startswith("--")]
        if line.split()[0] != "COPY" or "--from=" in line:
            continue
        for word in words:
            assert word != ".", "the whole context makes every change a new layer"
            assert word.startswith(BUILT) or (ROOT / word).exists(), word
            assert any(f"{word}/".startswith(f"{each}/") for each in let_through), word


def test_the_pipelines_image_gets_what_was_tested_and_nothing_of_development() -> None:
    image, project = locked("pipelines.txt"), locked("project.txt")
    assert image.items() <= project.items(), "make lock writes both"
    assert needed(["serving", "object-storage"]) <= image.keys()
    alone = needed(["development"]) - needed(["serving", "object-storage"])
    assert alone & image.keys() <= {"psutil", "pexpect"}, "what BentoML and IPython (of Kedro) need as well"


def test_a_torch_for_cpus_leaves_out_only_what_torch_brings_for_gpus() -> None:
    """A filter by how names begin would leave out torchmetrics, without which nothing trains."""
    recipe = (ROOT / "deploy/images/pipelines/Dockerfile").read_text()
    program = re.search(r"awk '(.+?)'", recipe)
    assert program is not None
    lock = ROOT / "requirements/pipelines.txt"
    kept = subprocess.run(["awk", program[1], lock], capture_output=True, text=True, check=True).stdout
    names = set(re.findall(r"^([A-Za-z0-9._-]+)==", kept, re.MULTILINE))
    left_out = locked("pipelines.txt").keys() - names
    assert {"torch", "torchvision", "triton"} <= left_out
    assert {"torchmetrics", "nvidia-ml-py", "pytorch-lightning"} <= names
    assert all(
        name.startswith(("nvidia-", "cuda-")) for name in left_out - {"torch", "torchvision", "triton"}
    )
    assert kept.count("--hash=") >= len(names), "what is installed is installed by hash"
