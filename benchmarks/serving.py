"""The service under load against the model alone: 32 clients, the same photos, the same beam.

    python -m benchmarks.serving --model data/06_models/scenes/show_attend_tell --seconds 60

First the model captions encoded photos in process, in batches of 16, decoding included. Then a real service
does, over HTTP on this machine, with database and photo archive on the disk. The claim: at least 70 %.
"""

import argparse
import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

PHOTOS = 64
CLIENTS = 32
BATCH = 16


def photos(folder: Path | None) -> list[bytes]:
    """Real photos from a folder, or drawn noise of a phone's proportions."""
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
    captioner.caption(images[:BATCH])
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = done % (len(images) - BATCH + 1)
        captioner.caption(images[start : start + BATCH])
        done += BATCH
    return done / (time.perf_counter() - began)


async def load(url: str, images: list[bytes], clients: int, seconds: float) -> dict[str, object]:
    """What so many clients get, each asking again as soon as it is answered."""
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        warm_until = time.perf_counter() + min(5.0, seconds)
        until = warm_until + seconds

        async def person(number: int) -> None:
            turn = number
            while time.perf_counter() < until:
                began = time.perf_counter()
                headers = {"Content-Type": "image/jpeg"}
                answer = await client.post(
                    "/v1/captions", content=images[turn % len(images)], headers=headers
                )
                turn += 1
                if began >= warm_until:
                    statuses[answer.status_code] += 1
                    latencies.append(time.perf_counter() - began)
                if answer.status_code in {429, 503}:
                    await asyncio.sleep(0.2)

        await asyncio.gather(*(person(number) for number in range(clients)))
    p50, p99 = (float(np.quantile(latencies, share)) for share in (0.5, 0.99))
    return {
        "captions_per_second": statuses[201] / seconds,
        "p50_ms": round(1000 * p50),
        "p99_ms": round(1000 * p99),
        "statuses": dict(statuses),
    }


def serve(model: Path, folder: Path, port: int) -> "subprocess.Popen[bytes]":
    environment = {
        **os.environ,
        "CAPTIONLOOP_MODEL": str(model.absolute()),
        "CAPTIONLOOP_STATE": str(folder),
        "CAPTIONLOOP_ANONYMOUS_CAPTIONS_PER_MINUTE": "10000000",
        "CAPTIONLOOP_LOG_LEVEL": "WARNING",
        "BENTOML_DO_NOT_TRACK": "True",
    }
    command = [sys.executable, "-m", "bentoml", "serve", "captionloop.serving.service:Gateway"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    return subprocess.Popen(command, cwd=folder, env=environment)


def wait(url: str) -> None:
    for _ in range(1500):
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise SystemExit("the service did not get ready")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a bundle")
    parser.add_argument("--photos", type=Path, help="a folder with JPEG photos")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--port", type=int, default=3987)
    parser.add_argument("--alone", action="store_true", help="measure the model in process and stop")
    chosen = parser.parse_args()
    images = photos(chosen.photos)
    if chosen.alone:
        print(alone(chosen.model, images, chosen.seconds))
        return
    # In a process of its own: what it leaves behind must not slow the service.
    command = [sys.executable, "-m", "benchmarks.serving", "--alone", "--model", str(chosen.model)]
    command += ["--seconds", str(chosen.seconds)] + (
        ["--photos", str(chosen.photos)] if chosen.photos else []
    )
    in_process = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
    url = f"http://127.0.0.1:{chosen.port}"
    with tempfile.TemporaryDirectory() as folder:
        service = serve(chosen.model, Path(folder), chosen.port)
        try:
            wait(url)
            served = asyncio.run(load(url, images, chosen.clients, chosen.seconds))
            over = asyncio.run(load(url, images, 160, min(10.0, chosen.seconds)))
            after = asyncio.run(load(url, images, 4, 3.0))
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(30)
    share = float(str(served["captions_per_second"])) / in_process
    result = {
        "model_alone_per_second": in_process,
        "gateway": served,
        "share_of_the_model": share,
        "over_capacity_160_clients": over,
        "after_it": after,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
