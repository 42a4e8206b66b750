"""Bundles and a registry, small enough to make many of them."""

import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from captionloop.registry.gate import GateDecision
from captionloop.registry.model_registry import ModelRegistry


@pytest.fixture
def registry(mlflow_store: str, request: pytest.FixtureRequest) -> ModelRegistry:
    """An empty registry: a registered model of its own in the store that all tests share."""
    name = f"captioner {zlib.crc32(request.node.nodeid.encode()):08x}"
    return ModelRegistry(mlflow_store, name=name, experiment="tests")


MakeBundle = Callable[..., Path]


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    def make(name: str = "one", *, weights: bytes = b"", commit: str = "abc", beam_width: int = 3) -> Path:
        """A folder with the files and checksums of a bundle; what is in them matters to nobody here."""
        folder = tmp_path / "bundles" / name
        folder.mkdir(parents=True, exist_ok=True)
        contents = {
            "config.json": json.dumps({"beam_width": beam_width}).encode(),
            "model.safetensors": weights or name.encode(),
            "encoder.safetensors": b"encoder",
            "tokenizer.json": b'{"words": ["a", "dog"]}',
            "metrics.json": b"{}",
            "lineage.json": json.dumps({"git_commit": commit}).encode(),
            "MODEL_CARD.md": b"# A captioner",
        }
        for file, content in contents.items():
            (folder / file).write_bytes(content)
        sums = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
        (folder / "checksums.json").write_text(json.dumps(sums, indent=2, sort_keys=True) + "\n")
        return folder

    return make


@pytest.fixture
def gated_registry(registry: ModelRegistry, make_bundle: MakeBundle) -> ModelRegistry:
    """1 is champion, 2 passed against it, 3 did too."""
    registry.promote(registry.register(make_bundle("one")).version)
    for name in ("two", "three"):
        version = registry.register(make_bundle(name)).version
        decision = GateDecision(
            promoted=True, reason="Promoted.", candidate="it", champion="version 1", evaluation_set="e",
            photos=2, margin=0.03, seed=0, difference=None, checks=(),
        )  # fmt: skip
        registry.record_decision(version, decision, "")
    return registry
