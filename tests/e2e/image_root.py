"""An image that `deploy/images/build.sh` unpacked, and processes in it that may no more than a pod's."""

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

IMAGES = Path(__file__).resolve().parents[2] / "build/images"

# Namespaces of its own, the network too. Over the image lies a layer for mount points and hosts, as from the
# kubelet; what the chart mounts is writable, all else is not. Then the image's user, without any right.
ENTER = """
set -eu
image=$1 scratch=$2 user=$3 group=$4 folder=$5 writable=$6
shift 6
mount -t tmpfs tmpfs "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
root=$scratch/root
mount -t overlay -o "lowerdir=$image,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$root"
echo "127.0.0.1 localhost" > "$root/etc/hosts"
for each in $writable; do mkdir -p "$root$each"; done
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
for each in $writable; do mount -t tmpfs -o mode=1777 tmpfs "$root$each"; done
mount -o remount,bind,ro "$root"
python3 - <<'LOOPBACK'
import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh14x", b"lo", 1))
LOOPBACK
exec chroot "$root" env -i -C "$folder" "${settings[@]}" \
  setpriv --reuid "$user" --regid "$group" --clear-groups --no-new-privs --bounding-set=-all "$@"
"""


class ImageRoot:
    """The root file system of an image, and how the image says that it is run.

    Args:
        name: the image's, without `captionloop-`.
        writable: the folders on which the chart mounts something.
    """

    def __init__(self, name: str, writable: Sequence[str] = ("/tmp",)) -> None:
        self.root = (IMAGES / name).resolve()
        self.config = json.loads((IMAGES / f"{name}.json").read_text())["Docker"]["config"]
        self.writable = writable

    @staticmethod
    def built(name: str) -> bool:
        return os.geteuid() == 0 and (IMAGES / f"{name}.json").is_file() and (IMAGES / name).is_dir()

    @property
    def user(self) -> tuple[int, int]:
        user, _, group = self.config["User"].partition(":")
        return int(user), int(group)

    def start(self, *command: str, log: Path, **settings: str) -> subprocess.Popen:
        """Start a command; without one, what the image starts by itself."""
        given = [*(self.config.get("Env") or []), *(f"{name}={value}" for name, value in settings.items())]
        run = command or (*(self.config.get("Entrypoint") or ()), *(self.config.get("Cmd") or ()))
        quoted = " ".join(f"'{each}'" for each in given)
        scratch = log.with_suffix(".scratch")
        scratch.mkdir(exist_ok=True)
        inside = [str(self.root), str(scratch), *map(str, self.user), self.config.get("WorkingDir") or "/"]
        with log.open("ab") as file:
            return subprocess.Popen(
                [
                    "unshare", "--mount", "--pid", "--ipc", "--net", "--fork",
                    "bash", "-c", f"settings=({quoted})\n{ENTER}", "bash",
                    *inside, " ".join(self.writable), *run,
                ],
                stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip

    def run(self, *command: str, log: Path, seconds: float = 300, **settings: str) -> str:
        """What a command in the image says; it must succeed."""
        process = self.start(*command, log=log, **settings)
        try:
            code = process.wait(seconds)
        finally:
            stop(process)
        output = log.read_text()
        assert code == 0, output[-4000:]
        return output


def ask(process: subprocess.Popen, *arguments: str) -> subprocess.CompletedProcess:
    """`curl` in the network of a process that was started in an image."""
    command = ["nsenter", f"--net=/proc/{process.pid}/ns/net", "curl", "-sS", "--max-time", "60", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def wait_for(process: subprocess.Popen, url: str, log: Path, seconds: float = 240) -> None:
    """Wait until a URL is answered with success."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if ask(process, "--fail", url).returncode == 0:
            return
        time.sleep(0.5)
    raise AssertionError(f"{url} is not answered:\n{log.read_text()[-4000:]}")


def stop(process: subprocess.Popen) -> None:
    """End a process with all of its namespace, whose first process it is that `unshare` started.

    `unshare --kill-child` does not do for this: whoever changes users is no longer told that the parent died.
    """
    if process.poll() is None:
        for first in psutil.Process(process.pid).children():
            first.kill()
    process.wait(30)
