"""A person at a terminal: a command started from a bare shell, read, and ended by Ctrl-C."""

import contextlib
import os
import re
import secrets
import signal
import threading
import time
from pathlib import Path

import httpx
import pexpect
import psutil

MARK = "CAPTIONLOOP_STARTED_BY_TEST"
SECONDS_TO_END = 40.0
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A command in a pseudo-terminal, with nothing in its environment but HOME, PATH and `settings`.

    Whatever it starts inherits a mark in its environment, and is found again in whatever session and with
    whatever parent it lives on; what overwrites its environment with a title (Airflow) is known as a
    descendant.
    """

    def __init__(self, *command: str, folder: Path, log: Path, **settings: str) -> None:
        self._mark = secrets.token_hex(8)
        self.command, self.log = command, log
        environment = {
            "HOME": os.environ.get("HOME", "/"), "PATH": "/usr/local/bin:/usr/bin:/bin", "TERM": "xterm",
            "LANG": "C.UTF-8", MARK: self._mark, **settings,
        }  # fmt: skip
        self._output = log.open("wb")
        self._known: set[psutil.Process] = set()
        self._shell = pexpect.spawn(
            command[0], list(command[1:]), cwd=str(folder), env=environment, logfile=self._output, timeout=1,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # not so in background
        )  # fmt: skip
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()

    def _drain(self) -> None:
        """Read on and on, as a terminal does: who prints to one that does not is held up when it is full."""
        while True:
            try:
                self._shell.read_nonblocking(65536, timeout=1)
            except pexpect.TIMEOUT:
                continue
            except (pexpect.EOF, OSError, ValueError):
                self._ended.set()
                return

    def read(self, seconds: float = 0.5) -> bool:
        """Let it print for some time; False when it has ended."""
        return not self._ended.wait(seconds)

    def text(self) -> str:
        """What was printed so far, without colours."""
        self._output.flush()
        return COLOURS.sub("", self.log.read_text(errors="replace"))

    def wait_for_text(self, expected: str, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while expected not in self.text():
            goes_on = self.read()
            assert goes_on or expected in self.text(), self._complaint("ended early")
            assert time.monotonic() < deadline, self._complaint(f"does not print {expected!r}")

    def wait_until_it_answers(self, url: str, seconds: float = 600) -> None:
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(url, timeout=5).is_success:
                    return
            assert self.read(), self._complaint("ended early")
            assert time.monotonic() < deadline, self._complaint(f"does not answer at {url}")

    def finish(self, seconds: float = 1500) -> str:
        """Its output, when it has ended well."""
        deadline = time.monotonic() + seconds
        while self.read():
            assert time.monotonic() < deadline, self._complaint("does not end")
        self._shell.close()
        assert self._shell.exitstatus == 0, self._complaint(f"exit status {self._shell.exitstatus}")
        assert self.survivors() == [], "processes are left"
        return self.text()

    def interrupt(self) -> None:
        """Ctrl-C: everything ends, its ports are free, and `make` tells that it was interrupted."""
        ports = self.listening()
        self._shell.sendintr()
        deadline = time.monotonic() + SECONDS_TO_END
        goes_on = True
        while (goes_on or self.survivors()) and time.monotonic() < deadline:
            goes_on = self.read() if goes_on else bool(time.sleep(0.2))
        assert self.survivors() == [], self._complaint("survives Ctrl-C")
        self._shell.close()
        status = (self._shell.signalstatus, self._shell.exitstatus)
        assert status in {(signal.SIGINT, None), (None, 2), (None, 128 + signal.SIGINT)}, self._complaint(
            f"{status}"
        )
        still = {
            connection.laddr.port for connection in psutil.net_connections() if connection.status == "LISTEN"
        }
        assert not {port for _, port in ports} & still

    def listening(self) -> set[tuple[str, int]]:
        """The addresses at which it and its descendants take connections."""
        found: set[tuple[str, int]] = set()
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                connections = process.net_connections("inet")
                found |= {(each.laddr.ip, each.laddr.port) for each in connections if each.status == "LISTEN"}
        return found

    def survivors(self) -> list[str]:
        """The command lines of what it started and still runs."""
        lines = []
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                lines.append(" ".join(process.cmdline()))
        return lines

    def close(self) -> None:
        """Whatever happened, nothing is left behind."""
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._reader.join(20)
        self._shell.close(force=True)
        self._output.close()

    def _processes(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            shell = psutil.Process(self._shell.pid)
            self._known |= {shell, *shell.children(recursive=True)}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self._mark:
                    self._known |= {process, *process.children(recursive=True)}
        running = []
        for process in self._known:
            with contextlib.suppress(psutil.Error):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    running.append(process)
        return running

    def _complaint(self, what: str) -> str:
        left = "\n".join(self.survivors())
        return f"{' '.join(self.command)}: {what}\n{self.text()[-4000:]}\nrunning:\n{left}"
