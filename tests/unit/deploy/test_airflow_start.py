"""Airflow beside the project: what would stop it is told before it starts."""

import os
import socket
import subprocess
from pathlib import Path

import pytest


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
