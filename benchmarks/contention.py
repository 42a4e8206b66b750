"""What other busy processes cost, by how threads wait for each other: the table behind `captionloop.OPENMP`.

python -m benchmarks.contention                  # about four minutes; idle figures want an idle machine
python -m benchmarks.contention --rounds 1 --small     # a moment

A training step, a search and captioning as the service does it (as many streams, encoder included), at the
demo's sizes: with the machine to themselves, and beside one and two processes that do nothing but count.
Each policy is in force in a process of its own, for OpenMP reads it when it is loaded; the processes take
turns, and only one computes at a time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from captionloop import OPENMP
from captionloop.vision.runtimes import cores

SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "OMP_DYNAMIC")
SPINNING = "OpenMP's own: 300,000 turns awake"
POLICIES: dict[str, dict[str, str]] = {
    "ours": dict(OPENMP),
    SPINNING: {"GOMP_SPINCOUNT": "300000"},
    "10,000 turns awake": {"GOMP_SPINCOUNT": "10000"},
    "7,000 turns awake": {"GOMP_SPINCOUNT": "7000"},
    "3,000 turns awake": {"GOMP_SPINCOUNT": "3000"},
    "asleep at once (passive)": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
"""Environments. What is called ours is what everything that imports captionloop runs under."""
BESIDE = (0, 1, 2)
MOST_BESIDE_ONE = 2.5
MOST_IDLE = 1.05


class Rival:
    """A process under one policy that computes when it is asked to, and sleeps meanwhile."""

    def __init__(self, policy: dict[str, str], *, small: bool) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        environment |= policy | {"CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-m", "benchmarks.contention", "--compute"]
        self._process = subprocess.Popen(
            command + ["--small"] * small,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def works(self) -> list[str]:
        """What it can be asked for, once it is ready."""
        found: list[str] = json.loads(self._answer())
        return found

    def seconds(self, work: str) -> list[float]:
        """Of a few goes at it, the first of which is not counted."""
        assert self._process.stdin is not None
        print(work, file=self._process.stdin, flush=True)
        taken: list[float] = json.loads(self._answer())
        return taken

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a process that computes has ended with {self._process.wait()}")
        return line


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many other processes that keep a core busy each."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        time.sleep(0.5 * bool(running))
        yield
    finally:
        for each in running:
            each.kill()
            each.wait()


def compute(*, small: bool) -> None:
    """Answer each line that names a work with its seconds, until there are no more lines."""
    works = workloads(small=small)
    for work in works.values():
        work()
    print(json.dumps(list(works)), flush=True)
    for line in sys.stdin:
        work, taken = works[line.strip()], []
        for _ in range(2 if small else 3):
            began = time.perf_counter()
            work()
            taken.append(time.perf_counter() - began)
        print(json.dumps(taken[1:]), flush=True)


def workloads(*, small: bool) -> dict[str, Callable[[], object]]:
    """What is measured, each as something to call."""
    from concurrent.futures import ThreadPoolExecutor
    from functools import partial

    import numpy as np
    import torch

    from benchmarks.photos import draw_jpeg
    from benchmarks.reference import long_winded
    from benchmarks.training import our_loss, stepping
    from captionloop.captioner.captioner import Captioner
    from captionloop.captioner.decoders import build_decoder
    from captionloop.captioner.decoders.base import PackedCaptions
    from captionloop.captioner.model_config import DecodingOptions, ShowAttendTellConfig
    from captionloop.tokenizer import CaptionTokenizer
    from captionloop.vision.encoder import Encoder, EncoderSpec
    from captionloop.vision.runtimes import native_precision

    torch.manual_seed(0)
    photos = 2 if small else 64
    spec = EncoderSpec(
        architecture="resnet10", input_size=128, layer="layer3", precision=native_precision("cpu")
    )
    encoder = Encoder.build(spec)
    tokenizer = CaptionTokenizer.train([" ".join(f"w{number}" for number in range(130))], min_frequency=1)
    words = tokenizer.vocabulary_size
    config = ShowAttendTellConfig(embedding=256, hidden=256, attention_size=128, dropout=0.2)
    build = partial(build_decoder, config, vocabulary_size=words, channels=encoder.channels)
    trained = build().train()
    drawn = np.random.default_rng(0)
    texts = [drawn.integers(4, words, drawn.integers(7, 15)).tolist() for _ in range(5 * photos)]
    captions = PackedCaptions.pack(texts, [number // 5 for number in range(len(texts))], images=photos)
    grids = torch.rand(photos, encoder.regions, encoder.channels)

    streams = min(4, cores())  # as the model server shares out the cores
    search = DecodingOptions(beam_width=5, max_length=12, precision="auto")
    captioner = Captioner(
        "served", encoder, long_winded(build().eval()), tokenizer, search, device="cpu", streams=streams
    )
    threads = torch.get_num_threads()
    batches = [[draw_jpeg(160, 120, seed=seed) for seed in range(1 if small else 8)]] * (2 * streams)

    def serve() -> None:
        torch.set_num_threads(max(1, cores() // streams))
        try:
            with ThreadPoolExecutor(streams) as pool:
                list(pool.map(captioner.caption, batches))
        finally:
            torch.set_num_threads(threads)

    return {
        "training step": stepping(trained, partial(our_loss, trained, grids, captions)),
        "search": partial(captioner.caption_grids, grids[:32].numpy().astype(np.float16)),
        "service": serve,
    }


def measure(rounds: int, *, small: bool) -> dict[tuple[str, str, int], float]:
    """Median seconds by (work, policy, busy processes)."""
    rivals = {name: Rival(policy, small=small) for name, policy in POLICIES.items()}
    for rival in rivals.values():  # all have been started: here they are waited for
        works = rival.works()
    taken: dict[tuple[str, str, int], list[float]] = {}
    order = list(rivals.items())
    for _ in range(rounds):
        for beside in BESIDE:
            with busy(beside):
                for work in works:
                    order.append(order.pop(0))  # nobody is always the first after a change of what runs
                    for name, rival in order:
                        taken.setdefault((work, name, beside), []).extend(rival.seconds(work))
    for rival in rivals.values():
        rival.stop()
    return {key: statistics.median(each) for key, each in taken.items()}


def table(found: dict[tuple[str, str, int], float]) -> str:
    """Milliseconds, and what a busy process costs, as a Markdown table."""
    lines = [
        "| work | how threads wait | idle, ms | beside one | beside two | one / idle |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for work in dict.fromkeys(work for work, _, _ in found):
        for name in POLICIES:
            each = [found[work, name, beside] * 1e3 for beside in BESIDE]
            figures = " | ".join(f"{value:.1f}" for value in each)
            lines.append(f"| {work} | {name} | {figures} | {each[1] / each[0]:.2f} |")
    return "\n".join(lines)


def shortfalls(found: dict[tuple[str, str, int], float]) -> list[str]:
    """What is wanted of our policy and was not reached: a line for each."""
    lines = []
    for work in dict.fromkeys(work for work, _, _ in found):
        idle, beside, before = found[work, "ours", 0], found[work, "ours", 1], found[work, SPINNING, 0]
        if beside > MOST_BESIDE_ONE * idle:
            lines.append(
                f"{work}: {beside / idle:.2f} x as long beside one process, wanted {MOST_BESIDE_ONE}"
            )
        if idle > MOST_IDLE * before:
            lines.append(f"{work}: idle {idle / before:.2f} x as long as with spinning, wanted {MOST_IDLE}")
    return lines


def main(arguments: list[str] | None = None) -> dict[tuple[str, str, int], float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--compute", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.compute:
        compute(small=chosen.small)
        return {}
    found = measure(chosen.rounds, small=chosen.small)
    print(f"Medians, {cores()} cores, {json.dumps(dict(OPENMP))} is ours\n\n{table(found)}\n")
    print("\n".join(shortfalls(found)) or "All that is wanted was reached.")
    return found


if __name__ == "__main__":
    main()
