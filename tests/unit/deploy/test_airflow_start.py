"""Airflow beside the project: what would stop it is told before it starts."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration


def test_a_taken_port_is_one_line(project_root: Path, tmp_path: Path) -> None:
    if not (project_root / ".venv-airflow/bin/python").exists():
        pytest.skip("Airflow's environment is not installed (make install-airflow)")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        done = subprocess.run(
            ["bash", "deploy/airflow/standalone.sh"],
            cwd=project_root,
            env={**os.environ, "AIRFLOW_PORT": port, "AIRFLOW_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"127.0.0.1:{port}" in done.stderr and "set AIRFLOW_PORT" in done.stderr


def test_the_login_can_be_asked_for_at_any_time_and_nobody_else_reads_it(
    project_root: Path, tmp_path: Path
) -> None:
    if not (project_root / ".venv-airflow/bin/python").exists():
        pytest.skip("Airflow's environment is not installed (make install-airflow)")
    home = tmp_path / "home"
    outputs = [
        subprocess.run(
            [project_root / "deploy/airflow/login.sh"],
            cwd=tmp_path,
            env={**os.environ, "AIRFLOW_PORT": "8099", "AIRFLOW_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    passwords = home / "passwords.json"
    password = json.loads(passwords.read_text())["admin"]
    assert (
        outputs[0] == outputs[1]
        and f"admin, {password}\n" in outputs[0]
        and "http://127.0.0.1:8099" in outputs[0]
    )
    assert passwords.stat().st_mode & 0o777 == 0o600
