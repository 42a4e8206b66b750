"""Timing of rivals in one run: in turns, so that a busy moment hits all of them alike; medians."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def interleaved(
    rivals: Mapping[str, Callable[[], object]], rounds: int, *, in_a_row: int = 1
) -> dict[str, float]:
    """Median seconds of each; every rival is warmed up once.

    Of several runs in a row the first is not timed: it finds the caches full of what the rival before it
    left, which matters where a run takes milliseconds.
    """
    for run in rivals.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, run in rivals.items():
            taken = [_seconds(run) for _ in range(in_a_row)]
            seconds[name] += taken[1:] or taken
    return {name: statistics.median(each) for name, each in seconds.items()}


def table(title: str, seconds: Mapping[str, float], *, reference: str, unit: str, count: float) -> str:
    """Milliseconds, `count` / seconds, and how many times faster than the reference each rival is."""
    width = max(len(name) for name in seconds)
    lines = [title, f"  {'':{width}}  {'ms':>9}  {unit:>12}  {'ratio':>7}"]
    for name, each in seconds.items():
        ratio = seconds[reference] / each
        lines.append(f"  {name:{width}}  {each * 1e3:9.1f}  {count / each:12.1f}  {ratio:6.1f}x")
    return "\n".join(lines)


def _seconds(run: Callable[[], object]) -> float:
    _synchronise()
    began = time.perf_counter()
    run()
    _synchronise()
    return time.perf_counter() - began


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
