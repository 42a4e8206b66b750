"""Caching as a Ray Data job, on a cluster of this machine."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from captionloop.errors import ConfigurationError, CorpusError
from captionloop.photos import PhotoFolder
from captionloop.vision.encoder import Encoder
from captionloop.vision.feature_caching import CachingParameters, cache_features
from captionloop.vision.feature_store import FeatureStore

Make = Callable[[int], tuple[pd.DataFrame, PhotoFolder]]

ON_RAY = CachingParameters.model_validate(
    {"views": ("whole", "mirrored"), "engine": "ray", "ray": {"photos": 4}}
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.integration
def test_a_job_makes_what_one_process_makes(
    corpus: Make, encoder: Encoder, tmp_path: Path, cluster: None
) -> None:
    images, photos = corpus(11)
    alone = CachingParameters(views=ON_RAY.views)
    cache_features(images.head(3), photos, encoder, FeatureStore(tmp_path / "ray"), alone)
    together, report = cache_features(images, photos, encoder, FeatureStore(tmp_path / "ray"), ON_RAY)
    serial, _ = cache_features(images, photos, encoder, FeatureStore(tmp_path / "serial"), alone)
    assert (report.encoded, report.found, report.missing, report.runtime) == (16, 6, 0, "Ray")
    keys = images["sha256"].tolist()
    for view in ON_RAY.views:
        assert (together.open().grids(keys, view) == serial.open().grids(keys, view)).all()
        rows = FeatureStore(tmp_path / "ray").table(together.views[view]).open()
        assert rows is not None and len(rows) == 11


@pytest.mark.integration
def test_what_goes_wrong_with_a_photo_is_told_as_without_ray(
    corpus: Make, encoder: Encoder, tmp_path: Path, cluster: None
) -> None:
    images, photos = corpus(6)
    photos.write("4.jpg", photos.read("2.jpg"))
    with pytest.raises(CorpusError, match=r"^photo 4\.jpg has changed"):
        cache_features(images, photos, encoder, FeatureStore(tmp_path / "ray"), ON_RAY)


@pytest.mark.integration
def test_an_actor_that_no_machine_has_room_for_is_refused(
    corpus: Make, encoder: Encoder, tmp_path: Path, cluster: None
) -> None:
    images, photos = corpus(1)
    wide = ON_RAY.model_copy(update={"ray": ON_RAY.ray.model_copy(update={"cpus": 64})})
    with pytest.raises(ConfigurationError, match=r"lower feature_caching\.ray\.cpus"):
        cache_features(images, photos, encoder, FeatureStore(tmp_path / "ray"), wide)


def test_without_ray_the_extra_is_named(
    corpus: Make, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, photos = corpus(1)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match=r"install captionloop\[ray\], or leave engine out"):
        cache_features(images, photos, encoder, FeatureStore(tmp_path / "ray"), ON_RAY)
