"""What a command costs before it does anything, beside the bare import of the packages that it needs.

python -m benchmarks.starting             # in a project where `make demo` has run; about two minutes

Every command runs in a process of its own, in turn with its floor: the median of `--rounds` goes of each.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

STORE = "mlflow, mlflow.store.tracking.sqlalchemy_store"
"""MLflow imports the second when it opens a store in SQLite."""
FLOORS: Mapping[str, str] = {
    "captionloop --help": "click",
    "captionloop models list": f"click, kedro.config, {STORE}",
    "captionloop report": f"click, kedro.io, rich.console, {STORE}",
    "captionloop caption {photo}": f"click, {STORE}, torch, torchvision, openvino",
    "kedro run --only-missing-outputs": f"kedro.framework.session, pandas, matplotlib.pyplot, {STORE}",
}
"""Commands, each with the modules that others wrote and that it needs."""


def seconds(command: Sequence[str]) -> float:
    """How long a process takes. Ends the benchmark where it fails."""
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1]}")
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    photo = next(Path("data/01_raw/sample_scenes/photos").glob("*.*"), None)
    if photo is None:
        raise SystemExit("there are no sample scenes: run make demo first")
    bin_folder = Path(sys.executable).parent
    print(f"load before: {os.getloadavg()[0]:.1f}; {rounds} rounds\n")
    print("| command | seconds | bare imports | ratio |\n|---|---:|---:|---:|")
    for written, modules in FLOORS.items():
        name, *arguments = written.format(photo=photo).split()
        taken, floor = [], []
        for _ in range(rounds):
            taken.append(seconds([str(bin_folder / name), *arguments]))
            floor.append(seconds([sys.executable, "-c", f"import {modules}"]))
        ours, bare = statistics.median(taken), statistics.median(floor)
        print(
            f"| `{written.format(photo='photo.png')}` | {ours:.2f} | {bare:.2f} | {ours / bare:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
