"""A step as bash runs it: it waits for an earlier try, but not for ever, and keeps why it failed."""

import fcntl
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from test_dags import dags, python

from captionloop.commands.report import failures

pytestmark = pytest.mark.integration
BIN = Path(sys.executable).parent

COMMAND = """#!/bin/bash
case "$*" in
  outcome*) echo '{"version": 5}';;
  step-ended*) exec "$REAL" "$@";;
  *) echo "captioning"; for line in "looking" "$SAYS"; do echo "$line" >&2; done; exit "$CODE";;
esac
"""


@pytest.fixture(scope="module")
def scripts(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return filled_scripts(project_root, tmp_path_factory.mktemp("airflow"), CAPTIONLOOP_LOCK_SECONDS="1")


def filled_scripts(project_root: Path, home: Path, **variables: str) -> dict[str, str]:
    """Each step's script, with what Airflow fills in."""
    found = dags(project_root, home, **variables)
    tasks = found["dags"]["retraining"]["tasks"]
    scripts = {name: task["bash"] for name, task in tasks.items() if task["bash"]}
    for name, script in scripts.items():
        filled = script.replace("{{ folder(run_id) }}", "run").replace("{{ task.task_id }}", name)
        filled = filled.replace("{{ ti.map_index }}", "-1")
        scripts[name] = re.sub(r"\{\{.*?\}\}", "3", filled)
    return scripts


def run(script: str, folder: Path, says: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
    """As BashOperator does: both outputs are one."""
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    for name in ("captionloop", "kedro"):
        (bin_folder / name).write_text(COMMAND)
        (bin_folder / name).chmod(0o755)
    script = re.sub(r"export PATH=.*:\$PATH", f"export PATH={bin_folder}:$PATH", script)
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, text=True,
        env={**os.environ, "SAYS": says, "CODE": str(code), "REAL": str(BIN / "captionloop")},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False,
    )  # fmt: skip


def test_why_a_step_failed_is_kept_until_it_succeeds(scripts: dict[str, str], tmp_path: Path) -> None:
    reason = "Version 3 does not pass: photo 7 got an empty caption"
    failed = run(scripts["verify"], tmp_path, f"Error: {reason}", 1)
    assert failed.returncode == 1 and reason in failed.stdout
    workspace = tmp_path / "data/runs/run"
    assert failures(workspace) == {"verify": reason}
    assert run(scripts["verify"], tmp_path).returncode == 0
    assert failures(workspace) == {}


def test_in_object_storage_it_is_kept_there_and_nothing_is_locked_here(
    project_root: Path, s3_server: str, tmp_path: Path
) -> None:
    workspace = f"s3://captionloop/{uuid.uuid4().hex}"
    scripts = filled_scripts(project_root, tmp_path / "airflow", CAPTIONLOOP_WORKSPACE=workspace)
    here = tmp_path / "here"
    here.mkdir()

    def stored_failures() -> dict[str, str]:
        asked = [str(BIN / "captionloop"), "outcome", "failures", "--workspace", f"{workspace}/runs/run"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=True)
        found: dict[str, str] = json.loads(answer.stdout)["failures"]
        return found

    failed = run(scripts["verify"], here, "Error: photo 7 got an empty caption", 1)
    assert failed.returncode == 1 and "photo 7 got an empty caption" in failed.stdout
    assert stored_failures() == {"verify": "photo 7 got an empty caption"}
    assert run(scripts["verify"], here).returncode == 0
    assert stored_failures() == {}
    done = run(scripts["registration"], here, "a warning on stderr")
    assert json.loads(done.stdout.splitlines()[-1]) == {"version": 5}
    assert [path.name for path in here.iterdir()] == ["bin"]
    assert "rm -rf s3:" not in scripts["package"]
    assert f"--output {workspace}/runs/run/bento" in scripts["package"]


def test_what_a_step_tells_is_its_last_line_whatever_it_says_besides(
    scripts: dict[str, str], tmp_path: Path
) -> None:
    for _ in range(20):
        done = run(scripts["registration"], tmp_path, "a warning on stderr")
        assert done.returncode == 0, done.stdout
        assert json.loads(done.stdout.splitlines()[-1]) == {"version": 5}


def test_a_lock_is_not_waited_for_for_ever(scripts: dict[str, str], tmp_path: Path) -> None:
    workspace = tmp_path / "data/runs/run"
    workspace.mkdir(parents=True)
    with (workspace / ".training.-1.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run(scripts["training"], tmp_path)
    assert done.returncode == 1
    assert failures(workspace)["training"].startswith("An earlier try holds data/runs/run/.training.-1.lock")
    assert run(scripts["training"], tmp_path).returncode == 0


def test_nothing_to_take_back_is_skipped(scripts: dict[str, str], tmp_path: Path) -> None:
    nothing = scripts["rollback"].replace('[ -n "3" ]', '[ -n "" ]')
    assert nothing != scripts["rollback"] and run(nothing, tmp_path).returncode == 99
    assert failures(tmp_path / "data/runs/run") == {}


TELL = """
import sys
sys.path.insert(0, sys.argv[1])
from types import SimpleNamespace
from captionloop_dags.failures import send_failure_alert
send_failure_alert({"dag_run": SimpleNamespace(dag_id="retraining", run_id="a+b"), "reason": "timed_out"})
print("null")
"""


def test_a_run_that_fails_is_told_where_a_connection_says(project_root: Path, tmp_path: Path) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    alerts = []

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            alerts.append((self.path, json.loads(body)["text"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Chat) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        where = f"http://127.0.0.1:{server.server_port}/hooks"
        connection = json.dumps({"conn_type": "http", "host": where, "password": "T1/secret"})
        url = "http://127.0.0.1:8080"
        known = {"AIRFLOW_CONN_CAPTIONLOOP_ALERTS": connection, "AIRFLOW__API__BASE_URL": url}
        python(project_root, tmp_path, TELL, **known)
        python(project_root, tmp_path, TELL)  # nobody is told, and nothing goes wrong
        server.shutdown()
    message = f"retraining, run a+b: timed out. {url}/dags/retraining/runs/a%2Bb"
    assert alerts == [("/hooks/T1/secret", message)]


@pytest.mark.parametrize(
    ("step", "code", "becomes"),
    [
        ("canary_watch", 75, 75), ("canary_watch", 3, 0), ("canary_watch", 4, 0), ("canary_watch", 1, 1),
        ("canary_verdict", 0, 0), ("canary_verdict", 3, 99), ("canary_verdict", 4, 99),
        ("canary_verdict", 1, 1),
        ("shadow_watch", 75, 75), ("shadow_watch", 4, 0), ("shadow_watch", 3, 3), ("shadow_watch", 0, 0),
    ],
)  # fmt: skip
def test_what_a_trial_says_becomes_wait_go_on_skip_or_fail(
    scripts: dict[str, str], tmp_path: Path, step: str, code: int, becomes: int
) -> None:
    script = re.sub(r"(?m)^cd .*$", "", scripts[step])
    assert run(script, tmp_path, code=code).returncode == becomes
