"""What a shadow costs those who are answered: latencies of the champion without one and with one, in turn.

    python -m benchmarks.shadow --seconds 20 --rounds 3

A real service over HTTP follows a registry of two versions that take the same time: MobileNetV2 with random
weights, beam 5. Each round is measured without and with a shadow of a share of the photos (0.2): first at
half of what the service can do, photos coming by chance (Poisson; latencies from the moment at which one
should have been sent), then with 32 clients who ask again as soon as they are answered: there shadows are
dropped. The claim is a p99 of at most 1.15 times. Clients, gateway, champion and shadow share the cores.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import aiohttp
import numpy as np

from benchmarks.one_image import ours
from benchmarks.serving import load, photos, running
from captionloop.registry.model_registry import ModelRegistry
from captionloop.registry.promotion import begin_trial, end_trial

WORDS = 2_000
CLAIM = 1.15


def two_versions(folder: Path) -> ModelRegistry:
    """A registry of a champion and another version that takes as long."""
    registry = ModelRegistry(f"sqlite:///{folder / 'mlflow.db'}")
    captioner = ours(WORDS, "cpu")
    for name in ("champion", "shadow"):
        replace(captioner, name=name).save(folder / name)
        registry.register(folder / name)
    registry.promote(1)
    return registry


async def arrivals(url: str, images: list[bytes], rate: float, seconds: float, seed: int) -> list[float]:
    """Latencies in seconds of photos that come by chance, so many a second."""
    generator = np.random.default_rng(seed)
    moments = np.cumsum(generator.exponential(1 / rate, int(rate * seconds)))
    latencies: list[float] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as session:
        began = time.perf_counter()

        async def person(turn: int, moment: float) -> None:
            await asyncio.sleep(began + moment - time.perf_counter())
            body, headers = images[turn % len(images)], {"Content-Type": "image/jpeg"}
            async with session.post(f"{url}/v1/captions", data=body, headers=headers) as answer:
                await answer.read()
                assert answer.status == 201, answer.status
            latencies.append(time.perf_counter() - began - moment)

        await asyncio.gather(*(person(turn, moment) for turn, moment in enumerate(moments)))
    return latencies


def tried(url: str) -> dict[str, Any] | None:
    """What the model server tells of its shadow."""
    with urlopen(f"{url}/v1/model", timeout=10) as answer:
        servers = json.load(answer)["servers"]
    return servers[0]["trial"] if servers else None


def shadow(registry: ModelRegistry, url: str, share: float) -> None:
    """Begins one, or ends it where there is no share, and waits until the service has heard of it."""
    if share:
        begin_trial(registry, 2, "shadow", share, most=10**9, days=1)
    else:
        end_trial(registry, "shadow", "stopped")
    deadline = time.monotonic() + 120
    while bool((trial := tried(url)) and trial["ready"]) != bool(share):
        assert time.monotonic() < deadline, trial
        time.sleep(0.2)


def p99(latencies: list[float]) -> float:
    """In ms."""
    return 1000 * float(np.quantile(latencies, 0.99))


def measured(chosen: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All rounds."""
    registry, images = two_versions(folder), photos(chosen.photos)
    settings = {"CAPTIONLOOP_REGISTRY": registry.tracking_uri, "CAPTIONLOOP_FOLLOW_SECONDS": "1"}
    paced: dict[str, list[float]] = {"without": [], "with": []}
    busy: dict[str, list[float]] = {"without": [], "with": []}
    rounds, counts = [], {"captioned": 0, "dropped": 0, "failed": 0}
    with running(None, chosen.port, **settings) as (url, _):
        capacity = asyncio.run(load(url, images, 8, 10.0, warm_up=5.0)).captions_per_second
        rate = chosen.load * capacity
        for number in range(chosen.rounds):
            order = ("without", "with") if number % 2 == 0 else ("with", "without")
            for side in order:
                shadow(registry, url, chosen.share if side == "with" else 0.0)
                latencies = asyncio.run(arrivals(url, images, rate, chosen.seconds, number))
                paced[side] += latencies
                at_once = asyncio.run(load(url, images, chosen.clients, chosen.seconds / 2))
                busy[side].append(at_once.p99_ms)
                if side == "with":
                    trial = tried(url) or {}
                    counts = {name: counts[name] + trial[name] for name in counts}
                rounds.append({"side": side, "paced_p99_ms": round(p99(latencies)), **vars_of(at_once)})
        shadow(registry, url, 0.0)
    return {
        "cores": os.cpu_count(),
        "load_average": [round(each, 1) for each in os.getloadavg()],
        "captions_per_second_possible": capacity,
        "paced_per_second": round(rate, 1),
        "photos_paced": {side: len(latencies) for side, latencies in paced.items()},
        "paced_p50_ms": {side: round(1000 * float(np.median(each))) for side, each in paced.items()},
        "paced_p99_ms": {side: round(p99(each)) for side, each in paced.items()},
        "paced_p99_ratio": round(p99(paced["with"]) / p99(paced["without"]), 3),
        f"{chosen.clients}_clients_p99_ratio": round(sum(busy["with"]) / sum(busy["without"]), 3),
        "shadow": counts,
        "rounds": rounds,
    }


def vars_of(served: Any) -> dict[str, float]:
    """What is told of a round with many clients."""
    return {"busy_p99_ms": served.p99_ms, "busy_per_second": served.captions_per_second}


def main() -> None:
    """Prints what was measured, and whether it is what is claimed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each side of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--load", type=float, default=0.5, help="of what the service can do")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--photos", type=Path, help="folder of JPEGs")
    parser.add_argument("--port", type=int, default=29_387)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):  # MLflow keeps its artifacts here
        found = measured(chosen, Path(folder))
    print(json.dumps(found, indent=2))
    print(f"at most {CLAIM} times: {'yes' if found['paced_p99_ratio'] <= CLAIM else 'no'}")


if __name__ == "__main__":
    main()
