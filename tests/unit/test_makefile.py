"""Every target of the Makefile is tried with real processes, and .ci/run runs them."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from captionloop.commands.doctor import SUPPORTED

TRIED = ("TO_THE_END", "SERVERS", "INTERRUPTED")
INTERNAL = {"$(VENV)/python", ".venv-airflow/python", ".venv-sbom/python"}
"""Prerequisites of `install`, `install-airflow` and `sbom`, which people do not call."""


def tried(project_root: Path) -> set[str]:
    """The targets that tests/e2e/test_make_targets.py names."""
    module = ast.parse((project_root / "tests/e2e/test_make_targets.py").read_text())
    return {
        target
        for node in module.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in TRIED
        for target in ast.literal_eval(node.value)
    }


def test_every_target_is_tried_from_a_bare_shell(project_root: Path) -> None:
    makefile = (project_root / "Makefile").read_text()
    phony = {name for line in re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE) for name in line.split()}
    assert len(phony) > 20
    assert phony - INTERNAL == tried(project_root)


def test_ci_runs_the_named_uses_and_the_tests_as_an_older_machine(project_root: Path) -> None:
    lines = (project_root / ".ci/run").read_text().splitlines()
    for target in ("lint", "test", "uses", "unit-avx2"):
        assert f"make {target}" in lines
    assert any(line.strip().startswith("make unit-some") for line in lines)


def choose(
    project_root: Path, folder: Path, *arguments: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    """requirements/python.sh where `folder` is all of the PATH but for the tools that it needs itself."""
    environment = {"HOME": str(folder), "PATH": f"{folder}:{folder / 'tools'}", **settings}
    return subprocess.run(
        ["/bin/sh", str(project_root / "requirements/python.sh"), *arguments],
        env=environment, capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip


def fake_python(folder: Path, name: str, version: str, *, whole: bool = True) -> None:
    """What answers as a Python of this version does; one that is not whole lacks venv, ssl and sqlite3."""
    folder.mkdir(parents=True, exist_ok=True)
    script = f'#!/bin/sh\ncase "$2" in *print*) echo {version};; *) exit {0 if whole else 1};; esac\n'
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)


def test_the_newest_python_that_works_is_taken(project_root: Path, tmp_path: Path) -> None:
    fake_python(tmp_path, "python3.11", "3.11")
    fake_python(tmp_path, "python3.12", "3.12")
    fake_python(tmp_path, "python3.13", "3.13", whole=False)
    fake_python(tmp_path, "python3", "3.14")
    assert choose(project_root, tmp_path, "newest").stdout == f"{tmp_path}/python3.12\n"
    assert choose(project_root, tmp_path, "all").stdout.split() == [
        f"{tmp_path}/python3.12", f"{tmp_path}/python3.11",
    ]  # fmt: skip
    fake_python(tmp_path / ".pyenv/versions/3.13.0/bin", "python3.13", "3.13")
    assert choose(project_root, tmp_path, "newest").stdout.endswith("3.13.0/bin/python3.13\n")


def test_where_there_is_none_one_line_says_what_to_install(project_root: Path, tmp_path: Path) -> None:
    for name in ("/usr/local/bin", "/opt/homebrew/bin"):
        if any(Path(name).glob("python3.1[123]")):
            pytest.skip(f"there is a Python in {name}")
    fake_python(tmp_path, "python3", "3.10")
    done = choose(project_root, tmp_path, "venv", "new")
    assert done.returncode != 0 and not (tmp_path / "new").exists()
    assert len(done.stderr.splitlines()) == 1
    assert "apt-get install" in done.stderr and "PYTHON=" in done.stderr


@pytest.mark.parametrize(
    ("version", "message"),
    [("3.12", "rm -rf .venv"), ("3.10", "captionloop supports"), (None, "does not run")],
)
def test_another_python_than_the_environments_is_answered_in_one_line(
    project_root: Path, tmp_path: Path, version: str | None, message: str
) -> None:
    fake_python(tmp_path / ".venv/bin", "python", "3.11")
    if version:
        fake_python(tmp_path, "other", version)
    done = choose(project_root, tmp_path, "venv", ".venv", PYTHON=str(tmp_path / "other"))
    assert done.returncode != 0 and len(done.stderr.splitlines()) == 1 and message in done.stderr
    fake_python(tmp_path, "same", "3.11")
    assert choose(project_root, tmp_path, "venv", ".venv", PYTHON=str(tmp_path / "same")).returncode == 0
    assert choose(project_root, tmp_path, "venv", ".venv").returncode == 0


def test_what_is_supported_is_said_once_more_wherever_it_must_be(project_root: Path) -> None:
    versions = [f"{major}.{minor}" for major, minor in SUPPORTED]
    script = (project_root / "requirements/python.sh").read_text()
    assert f'SUPPORTED="{" ".join(reversed(versions))}"' in script
    pyproject = (project_root / "pyproject.toml").read_text()
    following = f"{SUPPORTED[-1][0]}.{SUPPORTED[-1][1] + 1}"
    assert f'requires-python = ">={versions[0]},<{following}"' in pyproject
    assert re.findall(r"Python :: (3\.\d+)", pyproject) == versions
    workflow = (project_root / ".github/workflows/ci.yml").read_text()
    matrix = ", ".join(f'"{version}"' for version in versions)
    assert f"python: [{matrix}]" in workflow
    assert os.access(project_root / "requirements/python.sh", os.X_OK)


@pytest.mark.e2e
@pytest.mark.named_use
@pytest.mark.parametrize("target", ["serve", "loop-demo"])
def test_a_registry_that_is_away_is_told_and_no_demo_is_made(project_root: Path, target: str) -> None:
    """What is installed counts as such; `captionloop` is the real one."""
    programs = os.path.relpath(Path(sys.executable).parent, project_root)  # as the Makefile has it
    done = subprocess.run(
        ["make", "-o", "install", target, f"BIN={programs}", "NPM="],
        cwd=project_root, capture_output=True, text=True, check=False, timeout=120,
        env={"PATH": os.environ["PATH"], "MLFLOW_TRACKING_URI": "http://127.0.0.1:1"},
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert "The MLflow store http://127.0.0.1:1 does not answer" in done.stderr.splitlines()[0]
    assert "demo" not in done.stderr.replace("loop-demo", "")
