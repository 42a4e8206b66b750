"""A project of its own in a folder: our pipelines and configuration, on so few scenes that all is quick."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from captionloop.registry.model_registry import ModelRegistry

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SMALL = {
    "parameters_sample_scenes.yml": {
        "sample_scenes": {"train": 160, "val": 24, "test": 24},
        "shifted_scenes": {"train": 40, "val": 4, "test": 4},
    },
    "parameters_encoder_adaptation.yml": {"encoder_adaptation": {"epochs": 2}},
    "parameters_evaluation.yml": {"evaluation": {"resamples": 200, "latency": {"photos": 2, "batches": 1}}},
    "parameters_feedback.yml": {"feedback": {"held_out_photos": 4}},
    "parameters_retraining.yml": {
        "retraining": {"min_captions": 200},
        "retraining_encoder": {
            "epochs": 1,
            "replay": 60,
            "repeat": 1,
            "label_noise": {"rounds": 1, "min_photos": 8, "epochs": 1, "replay": 20},
        },
    },
    # What is tried here is the way, not the gate: a model taught for seconds must get through.
    "parameters_registration.yml": {
        "registration": {
            "timed_photos": 2,
            "gate": {
                "margin": "${runtime_params:margin,2.0}",
                "resamples": 200,
                "guardrails": {
                    "largest_drop": 1.0,
                    "slowest": 50.0,
                    "shortest": 0.01,
                    "longest": 50.0,
                    "fewest_words": 0.01,
                    "hallucinations": 1000.0,
                },
            },
        }
    },
    "parameters_training.yml": {"models": {"show_attend_tell": {"epochs": 6}}},
}
TINY = {
    "sample_scenes.train": 40,
    "sample_scenes.val": 8,
    "sample_scenes.test": 8,
    "sample_scenes.side": 64,
    "encoder.input_size": 64,
    "encoder_adaptation.epochs": 1,
    "encoder_adaptation.batch_size": 8,
    "encoder_adaptation.concepts.minimum_images": 5,
    "models.show_and_tell_by_words.epochs": 1,
    "models.show_attend_tell.epochs": 2,
    "evaluation.latency.photos": 2,
    "evaluation.latency.batches": 1,
    "registration.timed_photos": 2,
}
"""Runtime parameters with which all pipelines run in a minute; what comes of it says nothing sensible."""
CHAMPION = [
    "evaluation.choose_evaluation_photos", "training.show_attend_tell.train_cross_entropy",
    "feature_caching.cache_features", "shifted_scenes.draw_shifted_scenes",
]  # fmt: skip


class SmallProject:
    """Pipelines, configuration and data in a folder, whose champion is version 1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "src").mkdir(parents=True)  # Kedro wants one; the package is the installed one
        (folder / "data").mkdir()
        for name in ("pyproject.toml", "bentofile.yaml", ".telemetry"):
            shutil.copy2(ROOT / name, folder)
        shutil.copytree(ROOT / "conf", folder / "conf")
        for name, change in SMALL.items():
            self.change(name, change)

    @property
    def registry(self) -> ModelRegistry:
        return ModelRegistry(f"sqlite:///{self.folder / 'mlflow.db'}")

    @property
    def champion(self) -> int:
        champion = self.registry.champion()
        assert champion is not None
        return champion.version

    def change(self, name: str, change: dict) -> None:
        """Change some of the parameters."""
        path = self.folder / "conf/base" / name
        merged = _merged(yaml.safe_load(path.read_text()), change)
        path.write_text(yaml.safe_dump(merged))

    def kedro(self, *arguments: str) -> None:
        """`kedro run`."""
        self.run(str(BIN / "kedro"), "run", *arguments)

    def run(self, *command: str) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CAPTIONLOOP_")},
            "KEDRO_DISABLE_TELEMETRY": "1", "GX_ANALYTICS_ENABLED": "false",
        }  # fmt: skip
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]

    def crown(self) -> None:
        """Teach a first model and make it the champion, without an evaluation that nothing here needs."""
        self.kedro("--pipelines", "__default__,shifted_scenes", "--to-nodes", ",".join(CHAMPION))
        registry = self.registry
        registry.promote(
            registry.register(self.folder / "data/06_models/sample_scenes/show_attend_tell").version
        )


def _merged(old: dict, new: dict) -> dict:
    both = {**old, **new}
    for key in old.keys() & new.keys():
        if isinstance(old[key], dict) and isinstance(new[key], dict):
            both[key] = _merged(old[key], new[key])
    return both
