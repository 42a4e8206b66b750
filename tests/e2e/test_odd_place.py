"""The demo, and its service, at a path that breaks what forgets to quote or to escape, in a bare locale.

The copy's environment has its METEOR, whose jar looks for its table by a URL, and its programs below that
path.
"""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pycocoevalcap
import pytest
from copied_project import copy_project
from PIL import Image
from service_process import free_port, photo
from test_documented_commands import SMALL

from captionloop import OPENMP

NAME = "Jürgens Projekt (1) #2 100%"
STARTS = {"kedro": "kedro.framework.cli:main", "captionloop": "captionloop.cli:main"}

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project as it is in git, with an environment of its own and small numbers."""
    copy = copy_project(tmp_path_factory.mktemp("places") / NAME, SMALL, linked=())
    make_environment(copy)
    yield copy
    shutil.rmtree(copy, ignore_errors=True)


def make_environment(project: Path) -> None:
    """`.venv` as `make install` leaves it: its own programs, the project, METEOR; the rest is the tests'."""
    venv = project / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    packages = next((venv / "lib").glob("python*/site-packages"))
    shutil.copytree(
        next(iter(pycocoevalcap.__path__)),
        packages / "pycocoevalcap",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (project / "src/captionloop/pipelines").symlink_to("../../pipelines")
    # As an editable installation does: Python reads `.pth` files in the locale's encoding, modules in UTF-8.
    ours = f"import site, sys\nsys.path.append({str(project / 'src')!r})\n"
    others = f"site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    (packages / "odd_project.py").write_text(ours + others, encoding="utf-8")
    (packages / "odd_project.pth").write_text("import odd_project\n", encoding="utf-8")
    for name, start in STARTS.items():
        module, function = start.split(":")
        called = (
            f"import sys; from {module} import {function}; sys.argv[0] = '{name}'; sys.exit({function}())"
        )
        program = f'exec "$(dirname "$0")/python" -c "{called}" "$@"'
        (venv / "bin" / name).write_text(f"#!/bin/sh\n{program}\n", encoding="utf-8")
        (venv / "bin" / name).chmod(0o755)
    (venv / ".installed").touch()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A bare locale, no home folder to write to, and a `TMPDIR` that no socket has room below."""
    temporary = tmp_path_factory.mktemp("t") / ("lang und länger " * 8)[:100]
    temporary.mkdir()
    assert len(os.fsencode(temporary)) > 115
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "OMP_NUM_THREADS") if name in os.environ}
    variables = {"OMP_DISPLAY_ENV": "verbose"}  # every process that loads OpenMP says how its threads wait
    return {**kept, **variables, "LC_ALL": "C", "TMPDIR": str(temporary), "CUDA_VISIBLE_DEVICES": ""}


def ways_to_wait(output: str) -> set[str]:
    return set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", output))


def test_the_demo_runs_at_an_odd_place(project: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["make", "demo"], cwd=project, env=environment, capture_output=True, check=False, timeout=1500
    )
    output = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, output[-6000:]
    assert "Installing" not in output
    assert "METEOR" in output and "registered" in output.lower(), output[-3000:]
    assert (project / "mlflow.db").is_file()
    assert list((project / "mlruns").rglob("model.safetensors"))
    assert ways_to_wait(output) == {OPENMP["GOMP_SPINCOUNT"]}
    strays = {path.name for path in project.parent.iterdir()} - {NAME}
    assert not strays  # a path that was cut at its # or its ? or escaped once too often


@pytest.fixture
def served(project: Path, environment: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The address of `captionloop serve`, and the key that it has printed."""
    if not (project / "mlflow.db").is_file():
        pytest.skip("the demo made no model")
    port, log = free_port(), project / "serve.log"
    with log.open("wb") as file:
        serving = subprocess.Popen(
            [project / ".venv/bin/captionloop", "serve", "--port", str(port)],
            cwd=project,
            env=environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 300
        while True:
            output = log.read_text(errors="replace")
            assert serving.poll() is None and time.monotonic() < deadline, output[-4000:]
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.3)
        yield f"http://127.0.0.1:{port}", re.findall(r"an API key\s+(\S+)", output)[0]
    finally:
        serving.send_signal(signal.SIGTERM)
        try:
            serving.wait(30)
        finally:
            serving.kill()


def test_the_service_captions_at_an_odd_place(served: tuple[str, str], project: Path) -> None:
    address, key = served
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.post(
        f"{address}/v1/captions", files={"image": ("Straße.jpg", photo(1))}, headers=headers, timeout=60
    )
    assert answer.status_code in (200, 201), answer.text
    assert answer.json()["caption"]
    kept = [path for path in (project / "data/service/photos").rglob("*") if path.is_file()]
    assert kept and all(Image.open(io.BytesIO(path.read_bytes())).width for path in kept)
    assert (project / "data/service/ratings.db").is_file()
    assert ways_to_wait((project / "serve.log").read_text(errors="replace")) == {OPENMP["GOMP_SPINCOUNT"]}
