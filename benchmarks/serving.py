"""The service under load against the model alone: 32 clients, same photos, same beam, same machine.

    python -m benchmarks.serving

The model alone captions encoded photos in process, in batches of 16, decoding included; half of it before
the service runs and half after, so that a machine that gets busier or slower shows. Then 32 clients ask a
real service over HTTP, with database and photo archive on the disk, limits and logs as by default; they
run on the same cores. The claim is at least 70 %. Then 160 clients ask for more than it takes, and four
find out whether it has recovered.
"""

import argparse
import asyncio
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import aiohttp
import numpy as np
import psutil
from PIL import Image

from captionloop.commands.model_lookup import bundle_folder
from captionloop.config import project_folder

PHOTOS = 64
CLIENTS = 32
TOO_MANY = 160
BATCH = 16
CLAIM = 0.7
SERVICE = "captionloop.serving.service:Gateway"


@dataclass(frozen=True)
class Served:
    """What so many clients got."""

    captions_per_second: float
    p50_ms: float
    p99_ms: float
    statuses: dict[int, int]
    refused_without_retry_after: int


def photos(folder: Path | None) -> list[bytes]:
    """Real photos from a folder, or drawn noise of 500 x 375 px."""
    if folder is not None:
        return [file.read_bytes() for file in sorted(folder.glob("*.jpg"))[:PHOTOS]]
    found = []
    for seed in range(PHOTOS):
        pixels = np.random.default_rng(seed).integers(0, 255, (60, 80, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((500, 375)).save(buffer, "JPEG", quality=85)
        found.append(buffer.getvalue())
    return found


def alone(model: Path, images: list[bytes], seconds: float) -> float:
    """Captions a second, in process."""
    from captionloop.captioner.captioner import Captioner

    captioner = Captioner.load(model)
    for _ in range(2):
        captioner.caption(images[:BATCH])
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = done % (len(images) - BATCH + 1)
        captioner.caption(images[start : start + BATCH])
        done += BATCH
    return done / (time.perf_counter() - began)


def alone_elsewhere(chosen: argparse.Namespace, model: Path, seconds: float) -> float:
    """The same in a process of its own: what it leaves behind must not slow the service."""
    command = [sys.executable, "-m", "benchmarks.serving", "--alone", "--model", str(model)]
    command += ["--seconds", str(seconds)]
    command += ["--photos", str(chosen.photos)] if chosen.photos else []
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


async def load(url: str, images: list[bytes], clients: int, seconds: float, warm_up: float = 0.0) -> Served:
    """So many clients, each asking again as soon as it is answered; who is refused waits a little."""
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    unsaid = 0
    began_all = time.perf_counter()
    warm, until = began_all + warm_up, began_all + warm_up + seconds
    limits = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(connector=limits, timeout=aiohttp.ClientTimeout(60)) as session:

        async def person(number: int) -> None:
            nonlocal unsaid
            turn = number
            while time.perf_counter() < until:
                began = time.perf_counter()
                body, headers = images[turn % len(images)], {"Content-Type": "image/jpeg"}
                async with session.post(f"{url}/v1/captions", data=body, headers=headers) as answer:
                    await answer.read()
                ended = time.perf_counter()
                turn += 1
                if warm <= ended < until:
                    statuses[answer.status] += 1
                    latencies.append(ended - began)
                if answer.status in {429, 503}:
                    unsaid += "Retry-After" not in answer.headers
                    await asyncio.sleep(0.2)

        await asyncio.gather(*(person(number) for number in range(clients)))
    p50, p99 = (1000 * float(np.quantile(latencies, share)) for share in (0.5, 0.99))
    return Served(round(statuses[201] / seconds, 1), round(p50), round(p99), dict(statuses), unsaid)


@contextmanager
def running(model: Path | None, port: int, **settings: str) -> Iterator[tuple[str, psutil.Process]]:
    """A service of its own, ready; without a model, that of the registry that is among the settings."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("CAPTIONLOOP_")
        }
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CAPTIONLOOP_")},
            "CAPTIONLOOP_MODEL": str(model.absolute()) if model else "",
            "CAPTIONLOOP_STATE": folder,
            "CAPTIONLOOP_ANONYMOUS_CAPTIONS_PER_MINUTE": "10000000",
            "BENTOML_DO_NOT_TRACK": "True",
            **settings,
        }
        command = [
            sys.executable,
            "-m",
            "bentoml",
            "serve",
            SERVICE,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        service = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}"
        try:
            wait(url, service)
            yield url, psutil.Process(service.pid)
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(60)


def wait(url: str, service: "subprocess.Popen[bytes]") -> None:
    for _ in range(1500):
        if service.poll() is not None:
            raise SystemExit("the service stopped at its start; is the port taken?")
        try:
            with urlopen(f"{url}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the service did not get ready")


def cpu_seconds(process: psutil.Process) -> dict[str, float]:
    """What the processes have used so far: the model server is the child that has used most."""
    used = sorted(sum(each.cpu_times()[:2]) for each in process.children(recursive=True))
    own = sum(psutil.Process().cpu_times()[:2])
    return {"model_server": used[-1], "gateway": sum(used[:-1]), "clients": own}


def measured(chosen: argparse.Namespace, model: Path) -> dict[str, Any]:
    images = photos(chosen.photos)
    before = alone_elsewhere(chosen, model, chosen.seconds / 2)
    with running(model, chosen.port) as (url, process):
        with urlopen(f"{url}/v1/model", timeout=10) as answer:
            decoding = json.load(answer)["decoding"]
        asyncio.run(load(url, images, chosen.clients, 5.0))
        used = cpu_seconds(process)
        served = asyncio.run(load(url, images, chosen.clients, chosen.seconds))
        used = {name: now - used[name] for name, now in cpu_seconds(process).items()}
        over = asyncio.run(load(url, images, TOO_MANY, min(10.0, chosen.seconds)))
        after = asyncio.run(load(url, images, 4, 3.0))
    afterwards = alone_elsewhere(chosen, model, chosen.seconds / 2)
    answered = served.statuses.get(201, 0)
    return {
        "model": {"folder": model.name, "beam_width": decoding["beam_width"]},
        "cores": os.cpu_count(),
        "model_alone_per_second": [round(before, 1), round(afterwards, 1)],
        f"gateway_{chosen.clients}_clients": asdict(served),
        "share_of_the_model": round(served.captions_per_second / statistics.mean([before, afterwards]), 3),
        "cpu_ms_a_caption": {name: round(1000 * each / max(1, answered), 1) for name, each in used.items()},
        f"over_capacity_{TOO_MANY}_clients": asdict(over),
        "after_it_4_clients": asdict(after),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a bundle's folder, or a version [default: champion, else newest]")
    parser.add_argument("--photos", type=Path, help="a folder with JPEG photos [default: drawn noise]")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--port", type=int, default=3987)
    parser.add_argument("--alone", action="store_true", help="measure the model in process and stop")
    chosen = parser.parse_args()
    model, _ = bundle_folder(project_folder(), chosen.model)
    if chosen.alone:
        print(alone(model, photos(chosen.photos), chosen.seconds))
        return
    found = measured(chosen, model)
    print(json.dumps(found, indent=2))
    share = found["share_of_the_model"]
    print(f"{share:.0%} of the model alone; {'at least' if share >= CLAIM else 'LESS THAN'} {CLAIM:.0%}")


if __name__ == "__main__":
    main()
