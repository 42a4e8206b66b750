"""Resident memory of caching and of training by the number of photos: its slope, and what 100,000 take.

python -m benchmarks.memory                                  # 10,000 and 40,000 photos
python -m benchmarks.memory --photos 100000                  # all of them: minutes
python -m benchmarks.memory --photos 50 100                  # a moment

Caching and training are the real ones, each in a process of its own, on generated photos with five captions
each. Photo and grid are small (32 px, 1 x 512), so that it is the books that are measured: hashes, tables,
tokens, indices, plans. What grids of 49 x 2048 take beyond that does not grow with the number of photos:
what a writer collects (64 MiB), and a few batches.
"""

import argparse
import hashlib
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.metrics import sentence
from benchmarks.photos import draw_jpeg
from captionloop.vision.feature_store import FeatureManifest

TARGET_PHOTOS = 100_000
CAPTIONS = 5
SIDE = 32
FRAGMENT_BYTES = 1 << 20  # full many times over, so that filling it is no slope


@dataclass
class EndlessFolder:
    """Photos by number: one JPEG file, and behind its end the number, so that each has a hash of its own."""

    @cached_property
    def jpeg(self) -> bytes:
        return draw_jpeg(SIDE, SIDE, seed=0)

    def read(self, uri: str) -> bytes:
        return self.jpeg + uri.encode()


def tables(count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    folder, draw = EndlessFolder(), random.Random(0)
    images, captions = [], []
    for number in range(count):
        name = f"photo{number:07d}"
        sha256 = hashlib.sha256(folder.read(name)).hexdigest()
        images.append((name, name, sha256, SIDE, SIDE, "val" if number % 100 == 99 else "train", "corpus"))
        captions += [(f"{name}#{i}", name, sentence(draw), "human", 1.0) for i in range(CAPTIONS)]
    return (
        pd.DataFrame(images, columns=["image_id", "uri", "sha256", "width", "height", "split", "source"]),
        pd.DataFrame(captions, columns=["caption_id", "image_id", "text", "source", "weight"]),
    )


def cache(images: pd.DataFrame, folder: Path) -> FeatureManifest:
    """Encodes the photos into a store; nothing is left to do where that has been done."""
    from captionloop.vision.encoder import Encoder, EncoderSpec
    from captionloop.vision.feature_caching import CachingParameters, cache_features
    from captionloop.vision.feature_store import FeatureStore
    from captionloop.vision.runtimes import native_precision

    spec = EncoderSpec(architecture="resnet10", input_size=SIDE, precision=native_precision())
    store = FeatureStore(folder / "features", fragment_bytes=FRAGMENT_BYTES)
    manifest, _ = cache_features(images, EndlessFolder(), Encoder.build(spec), store, CachingParameters())
    return manifest


def train(images: pd.DataFrame, captions: pd.DataFrame, folder: Path) -> None:
    """An epoch with a small decoder, through Lightning, from the cached features."""
    from captionloop.training.train_captioner import train as train_captioner
    from captionloop.training.training_parameters import CrossEntropyParameters

    features = cache(images, folder).open()
    decoder = {"kind": "show_attend_tell", "embedding": 64, "hidden": 64, "attention_size": 64}
    parameters = CrossEntropyParameters.model_validate(
        {"decoder": decoder, "epochs": 1, "batch_size": 1000, "validation": {"photos": 40}}
    )
    train_captioner(images, captions, features, parameters, checkpoints=folder / "work")


def in_this_process(stage: str, count: int, folder: Path) -> dict[str, float]:
    began = time.perf_counter()
    images, captions = tables(count)
    if stage == "caching":
        cache(images, folder)
    else:
        train(images, captions, folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"peak": float(peak), "seconds": time.perf_counter() - began}


def in_another(stage: str, count: int, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.memory", "--photos", str(count)]
    command += ["--stage", stage, "--folder", str(folder)]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(ran.stdout.splitlines()[-1])


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=int, nargs="+", default=[10_000, 40_000])
    parser.add_argument("--stage", choices=("caching", "training"), help="measure one, in this process")
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args(arguments)
    if chosen.stage:
        print(json.dumps(in_this_process(chosen.stage, chosen.photos[0], chosen.folder)))
        return {}
    expected = {}
    print(f"Resident memory at its peak, {CAPTIONS} captions a photo")
    print(f"  {'':10}  {'photos':>8}  {'MiB':>8}  {'seconds':>8}")
    with tempfile.TemporaryDirectory() as folder:
        peaks: dict[str, list[float]] = {"caching": [], "training": []}
        for count in chosen.photos:
            for stage, of_stage in peaks.items():
                found = in_another(stage, count, Path(folder) / str(count))
                of_stage.append(found["peak"])
                print(f"  {stage:10}  {count:8,}  {found['peak'] / 2**20:8.0f}  {found['seconds']:8.1f}")
    for stage, of_stage in peaks.items():
        slope = float(np.polyfit(chosen.photos, of_stage, 1)[0]) if len(of_stage) > 1 else 0.0
        expected[stage] = of_stage[-1] + slope * (TARGET_PHOTOS - chosen.photos[-1])
        print(
            f"  {stage}: {slope / 1024:.1f} KiB a photo, so {expected[stage] / 2**30:.2f} GiB"
            f" for {TARGET_PHOTOS:,} photos (at most 4 GiB)"
        )
    return expected


if __name__ == "__main__":
    main()
