"""Airflow's four processes as one: they start together, and end together on Ctrl-C or SIGTERM.

`airflow standalone` does the first. It leaves processes behind when it is asked to end, and its log servers
listen on every address of the machine; here the API server reads the logs where they lie, on the same disk.

Run by Airflow's own interpreter (standalone.sh), with the settings of environment.sh.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Final

import psutil

PARTS: Final = {
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "api-server": ["api-server"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
SECONDS_TO_END: Final = 15.0
PR_SET_CHILD_SUBREAPER: Final = 36
LOGIN: Final = Path(__file__).with_name("login.sh")


def begin(*arguments: str, output: int | None = None) -> "subprocess.Popen[bytes]":
    """Starts an Airflow command in a session of its own: Ctrl-C reaches us alone, and we end it in order."""
    command = [str(Path(sys.executable).with_name("airflow")), *arguments]
    return subprocess.Popen(  # noqa: S603 - our own environment, no shell
        command, stdout=output, stderr=output and subprocess.STDOUT, start_new_session=True
    )


def show(name: str, lines: IO[bytes]) -> None:
    """Copies a part's output to ours, line by line, with its name before it."""
    for line in lines:
        text = line.decode(errors="replace").rstrip()
        with contextlib.suppress(OSError):  # the terminal may be gone; the parts must not wait for it
            sys.stdout.write(f"{name:<14}| {text}\n")
            sys.stdout.flush()


def show_login(stopped: threading.Event) -> None:
    """Shows the login once more when people can use it: what was said before the start has scrolled away."""
    base = os.environ.get("AIRFLOW__API__BASE_URL", "")
    while base and not stopped.wait(1.0):
        try:
            with urllib.request.urlopen(f"{base}/api/v2/monitor/health", timeout=5):  # noqa: S310 - our own
                pass
        except (OSError, ValueError, urllib.error.URLError):
            continue
        done = subprocess.run([LOGIN], capture_output=True, check=False)  # noqa: S603 - ours
        with contextlib.suppress(OSError):
            sys.stdout.write(f"\nAirflow is ready.{done.stdout.decode()}")
            sys.stdout.flush()
        return


def adopt_orphans() -> None:
    """What a part leaves behind becomes our child (on Linux), so that it is found and ended with the rest."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_all(parts: list[subprocess.Popen[bytes]]) -> None:
    """Asks the parts to end, waits, and kills whatever is left of them and of what they started."""
    everything = {process.pid: process for process in psutil.Process().children(recursive=True)}
    for part in parts:
        if part.poll() is None:
            part.terminate()
    psutil.wait_procs(list(everything.values()), timeout=SECONDS_TO_END)
    while left := psutil.Process().children(recursive=True):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=SECONDS_TO_END)


def main() -> int:
    """Runs until it is asked to end (exit code 0) or one of the parts ends by itself (1)."""
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: asked.set())
    adopt_orphans()
    running = {"db migrate": begin("db", "migrate")}
    ended: str | None = None
    try:
        while running["db migrate"].poll() is None and not asked.wait(0.2):
            pass
        if not asked.is_set() and running["db migrate"].poll() == 0:
            del running["db migrate"]
            for name, command in PARTS.items():
                running[name] = begin(*command, output=subprocess.PIPE)
                threading.Thread(target=show, args=(name, running[name].stdout), daemon=True).start()
            threading.Thread(target=show_login, args=(asked,), daemon=True).start()
        while ended is None and not asked.wait(0.5):
            ended = next((name for name, part in running.items() if part.poll() is not None), None)
    finally:
        end_all(list(running.values()))
    if ended is not None:
        sys.stderr.write(f"Airflow's {ended} ended by itself (its last lines say why): all is stopped.\n")
    return 0 if ended is None else 1


if __name__ == "__main__":
    sys.exit(main())
