"""The encoder of the sample scenes, taught from nothing by several recipes: seconds, and mAP.

    make demo                                   # draws the scenes whose photos and captions are used
    python -m benchmarks.first_encoder          # all recipes, one after the other: some ten minutes
    python -m benchmarks.first_encoder --recipes before now --epochs 1

Measured is the mean average precision of the concepts on the validation scenes, which recipes may be chosen
by. On a machine whose processor has more instructions, ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 shows
a plain one.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import pandas as pd
import torch
from torch import nn

from benchmarks.loop.project import configured
from benchmarks.timing import interleaved
from benchmarks.timing import table as timings

WITHOUT_MUON: Final = {"muon_learning_rate": None}
BEFORE: Final = WITHOUT_MUON | {
    "epochs": 7, "batch_size": 32, "learning_rate": 3e-3, "head_learning_rate": 3e-3, "dropout": 0.2,
}  # fmt: skip
RECIPES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "before": ("resnet10", BEFORE),
    "narrower": ("resnet8", BEFORE),
    "smaller batches": ("resnet8", BEFORE | {"batch_size": 16, "learning_rate": 1.5e-3, "dropout": 0.0}),
    "now, without Muon": ("resnet8", WITHOUT_MUON),
    "now": ("resnet8", {}),
}
"""Architecture, and what differs from the configured recipe; each as it was reached from the one before."""


def taught(architecture: str, changes: dict[str, Any], data: Path) -> dict[str, float]:
    """Teaches one encoder; photos a second while teaching, mAP and loss on the validation scenes."""
    from captionloop.photos import PhotoFolder
    from captionloop.training.train_encoder import train_encoder
    from captionloop.training.training_parameters import AdaptationParameters, EncoderParameters
    from captionloop.vision.encoder import Encoder

    tables = data / "02_intermediate/sample_scenes"
    images = pd.read_parquet(tables / "training_images.parquet")
    captions = pd.read_parquet(tables / "training_captions.parquet")
    concepts = pd.read_parquet(data / "03_primary/sample_scenes/concepts.parquet")["concept"].tolist()
    photos = {"corpus": PhotoFolder(str(data / "01_raw/sample_scenes/photos"))}
    spec = EncoderParameters.model_validate(configured("encoder") | {"architecture": architecture}).spec()
    parameters = AdaptationParameters.model_validate(configured("encoder_adaptation") | changes)
    with tempfile.TemporaryDirectory() as folder:
        encoder = Encoder.build(spec, None, parameters.seed)
        began = time.perf_counter()
        found = train_encoder(images, captions, concepts, photos, encoder, parameters, Path(folder))
    curves, trained = found.curves, int((images["split"] == "train").sum())
    return {
        "epochs": parameters.epochs,
        "seconds": time.perf_counter() - began,
        "photos/s": float(parameters.epochs * trained / curves["seconds"].sum()),
        "mAP": float(curves["val_map"].iloc[-1]),
        "loss": float(curves["val_loss"].iloc[-1]),
    }


def muon_steps(rounds: int) -> str:
    """A step of our Muon and of torch's, which takes matrices alone, for the matrices of `resnet8`."""
    from captionloop.training.muon import Muon, mixes_channels
    from captionloop.vision.backbone import build_grid_module

    weights = build_grid_module("resnet8", None, None, 0, input_size=128).parameters()
    matrices = [nn.Parameter(weight.detach().flatten(1)) for weight in weights if mixes_channels(weight)]
    gradients = [torch.randn_like(matrix) for matrix in matrices]
    ours = Muon([{"params": matrices, "lr": 0.0, "orthogonal": True}])

    def step(optimizer: torch.optim.Optimizer) -> None:
        for matrix, gradient in zip(matrices, gradients, strict=True):
            matrix.grad = gradient  # ours uses it up
        optimizer.step()

    rivals = {
        "torch.optim.Muon": partial(step, torch.optim.Muon(matrices, lr=0.0)),
        "ours": partial(step, ours),
    }
    seconds = interleaved(rivals, rounds)
    return timings("A step of Muon", seconds, reference="torch.optim.Muon", unit="steps/s", count=1)


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--epochs", type=int, help="of every recipe, for a look")
    parser.add_argument("--data", type=Path, default=Path("data"))
    given = parser.parse_args(arguments)
    print(muon_steps(rounds=10), flush=True)
    rows = {}
    for name in given.recipes:
        architecture, changes = RECIPES[name]
        forced = {"epochs": given.epochs} if given.epochs else {}
        rows[name] = taught(architecture, changes | forced, given.data)
        print(f"{name}: {rows[name]}", flush=True)
    table = pd.DataFrame.from_dict(rows, orient="index")
    table["ratio"] = table["seconds"].iloc[0] / table["seconds"]
    print(table.round(3).to_string())
    return table


if __name__ == "__main__":
    main()
