"""Registering and promoting, killed with SIGKILL at many moments, by a real process on a real store."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from captionloop.registry.model_registry import ModelRegistry

PROGRAM = """
import sys
from pathlib import Path
from captionloop.registry.model_registry import ModelRegistry
registry = ModelRegistry(sys.argv[1], experiment="tests")
registry.versions()
print("ready", flush=True)
version = registry.register(Path(sys.argv[2]), evidence=Path(sys.argv[3]), metrics={"CIDEr": 1.5})
registry.promote(version.version)
print("done", flush=True)
"""
KILLS = 6


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle large enough that copying it takes a while."""
    import hashlib
    import json

    folder = tmp_path / "bundle"
    folder.mkdir()
    contents = {
        "config.json": b"{}",
        "model.safetensors": os.urandom(64 << 20),
        "encoder.safetensors": os.urandom(64 << 20),
        "tokenizer.json": b"{}",
        "metrics.json": b"{}",
        "lineage.json": b"{}",
        "MODEL_CARD.md": b"# A captioner",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    (folder / "checksums.json").write_text(json.dumps(sums, indent=2, sort_keys=True) + "\n")
    return folder


@pytest.mark.e2e
def test_a_registration_killed_again_and_again_is_finished_by_the_last(bundle: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    MlflowClient(uri).create_experiment("tests", artifact_location=str(tmp_path / "artifacts"))
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence/captions.json").write_text("{}")
    arguments = [sys.executable, "-c", PROGRAM, uri, str(bundle), str(tmp_path / "evidence")]
    rng = random.Random(0)
    for _ in range(KILLS):
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.0, 1.0))
            process.send_signal(signal.SIGKILL)
    finished = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True)
    assert finished.stdout == "ready\ndone\n"

    registry = ModelRegistry(uri)
    (version,) = registry.versions()
    assert (version.version, version.aliases) == (1, ("challenger", "champion"))
    assert version.metrics == {"CIDEr": 1.5}
    registry.fetch("champion", tmp_path / "fetched")
    assert registry.fetch_evidence("champion", tmp_path / "kept") is not None
