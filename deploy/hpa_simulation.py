"""What the HorizontalPodAutoscaler would make of a load: its arithmetic, played second by second.

    python deploy/hpa_simulation.py load.csv --scale 20

`load.csv` has lines `seconds,captions a second`, every 15 s, as Prometheus tells them
(`sum(rate(captionloop_captions_total[30s]))`). Model servers caption at a steady rate each; what is more than
that waits. The autoscaler looks every 15 s and wants ceil(pods x now / target) for each metric, unless it is
within 10 % of its target; the larger wish wins. More pods: at most twice as many in 30 s, ready after their
start. Fewer: only when fewer would have done for five minutes.
"""

import argparse
import csv
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

LOOK_SECONDS = 15
TOLERANCE = 0.1
DOUBLING_SECONDS = 30


@dataclass(frozen=True)
class Scaler:
    """What the chart sets. `queued` of 0 leaves the queue out."""

    lowest: int = 2
    highest: int = 8
    cpu: float = 0.75
    queued: float = 0.0
    down_seconds: int = 300


@dataclass(frozen=True)
class Pod:
    """One model server: captions a second when busy, and seconds until a new one is ready."""

    rate: float
    start_seconds: int = 30


@dataclass
class Course:
    """What happened, second by second."""

    pods: list[int] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)
    rate: float = 1.0

    @property
    def longest_wait(self) -> float:
        """Seconds until a photo that came at the worst moment was captioned."""
        return max(wait / (self.rate * pods) for wait, pods in zip(self.waiting, self.pods, strict=True))

    @property
    def slow_share(self) -> float:
        """Share of the time in which a new photo waited more than 2.5 s."""
        slow = [wait / (self.rate * pods) > 2.5 for wait, pods in zip(self.waiting, self.pods, strict=True)]
        return sum(slow) / len(slow)


def wanted(pods: int, now: float, target: float) -> int:
    """The autoscaler's one formula."""
    ratio = now / target
    return pods if abs(ratio - 1) <= TOLERANCE else math.ceil(pods * ratio)


def play(load: Sequence[float], scaler: Scaler, pod: Pod) -> Course:
    """Play a load, given as captions a second for each second."""
    ready, waiting = scaler.lowest, 0.0
    starting: deque[int] = deque()
    wishes: deque[tuple[int, int]] = deque()
    busy: deque[float] = deque(maxlen=LOOK_SECONDS)
    doubled_at, allowed = -DOUBLING_SECONDS, 0
    course = Course(rate=pod.rate)
    for second, arriving in enumerate(load):
        while starting and starting[0] <= second:
            starting.popleft()
            ready += 1
        done = min(waiting + arriving, ready * pod.rate)
        waiting += arriving - done
        busy.append(done / (ready * pod.rate))
        course.pods.append(ready)
        course.waiting.append(waiting)
        if second % LOOK_SECONDS or not second:
            continue
        total = ready + len(starting)
        wish = wanted(ready, sum(busy) / len(busy), scaler.cpu)
        if scaler.queued:
            wish = max(wish, wanted(ready, waiting / ready, scaler.queued))
        wish = min(max(wish, scaler.lowest), scaler.highest)
        wishes.append((second, wish))
        while wishes[0][0] <= second - scaler.down_seconds:
            wishes.popleft()
        if second - doubled_at >= DOUBLING_SECONDS:
            doubled_at, allowed = second, 2 * total
        if wish > total:
            starting.extend([second + pod.start_seconds] * (min(wish, allowed) - total))
        else:
            ready -= max(0, total - max(each for _, each in wishes))
    return course


def read(file: Path, scale: float) -> list[float]:
    """A recorded load, second by second."""
    with file.open(newline="", encoding="utf-8") as text:
        rows = [(float(seconds), float(rate)) for seconds, rate in csv.reader(text)]
    load: list[float] = []
    for (begin, rate), (end, _) in pairwise(rows):
        load += [scale * rate] * round(end - begin)
    return load


def main() -> None:
    """Print a table of three ways to scale."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("load", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the load")
    parser.add_argument("--rate", type=float, default=20.0, help="captions a second of one model server")
    parser.add_argument("--start", type=int, default=30, help="seconds until a new one is ready")
    given = parser.parse_args()
    load, pod = read(given.load, given.scale), Pod(given.rate, given.start)
    print(f"{len(load)} s, {sum(load):.0f} captions, {max(load):.0f} a second at most\n")
    print("| scaled by | pods at most | pod-minutes | longest wait | time with waits over 2.5 s |")
    print("|---|---|---|---|---|")
    for name, scaler in {
        "nothing (2 pods)": Scaler(highest=2),
        "CPU 75 %": Scaler(),
        "CPU 75 % and 16 photos each": Scaler(queued=16),
    }.items():
        course = play(load, scaler, pod)
        print(
            f"| {name} | {max(course.pods)} | {sum(course.pods) / 60:.0f} | "
            f"{course.longest_wait:.1f} s | {course.slow_share:.0%} |"
        )


if __name__ == "__main__":
    main()
