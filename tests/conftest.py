"""Fixtures that several parts share."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import captionloop  # noqa: F401 - before any test imports torch, for how its threads wait

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"

# A busy machine is no fault of a law: nothing that is timed fails a test.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def project_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def flickr8k() -> Path:
    """The folder with the real photos, or a skip that says where they would have to be."""
    folder = SHARED / "flickr8k"
    if not folder.is_dir():
        pytest.skip("the Flickr8k photos are not at ../shared/data/flickr8k (see docs/data.md)")
    return folder


@pytest.fixture(scope="session")
def imagenet_weights() -> Path:
    """MobileNetV2's ImageNet weights, or a skip."""
    weights = SHARED / "weights" / "mobilenet_v2-imagenet1k-dequant.pth"
    if not weights.is_file():
        pytest.skip("the ImageNet weights are not at ../shared/data/weights")
    return weights
