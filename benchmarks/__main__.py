"""Every claim about speed and memory, one table after the other: `make bench`, or `python -m benchmarks`.

python -m benchmarks decoding memory             # some of them only
python -m benchmarks --list                      # what there is

Each runs in a process of its own, and measures the alternatives it compares in turn. On a machine with a GPU
the same tables are the GPU's. Others have a command of their own: `benchmarks.serving` (needs a bundle),
`benchmarks.loop` (see docs/benchmarks.md), `benchmarks.first_encoder` (needs the demo's scenes);
`benchmarks.gate_simulation`, `.anchor_simulation`, `.guardrail_simulation` and `.fresh_feedback` (see
docs/gate.md).
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import torch

from captionloop.vision.runtimes import cores

TABLES = ("extraction", "decoding", "one_image", "training", "metrics", "memory", "contention", "starting")


def machine() -> str:
    """What the figures belong to, and whether it had other things to do."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        amx = ", with AMX" if any(" amx_bf16" in line for line in lines) else ""
        name = (names[0] if names else name) + amx
    gpu = f"; {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    load = f"; load before: {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{cores()} cores of {name}{gpu}; torch {torch.__version__}{load}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("tables", nargs="*", help=f"{', '.join(TABLES)}; all of them if none is named")
    parser.add_argument("--list", action="store_true")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.tables if name not in TABLES]
    if unknown:
        parser.error(f"no table '{unknown[0]}'; there are {', '.join(TABLES)}")
    if chosen.list:
        print("\n".join(TABLES))
        return
    print(machine(), flush=True)
    failed = []
    for name in chosen.tables or TABLES:
        print(f"\n## {name}\n", flush=True)
        began = time.perf_counter()
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
        print(f"  ({time.perf_counter() - began:.0f} s)", flush=True)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
