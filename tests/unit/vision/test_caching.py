import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captionloop.errors import ConfigurationError, CorpusError, EncoderError, ImageError, StoreError
from captionloop.images import load_square
from captionloop.photos import PhotoFolder
from captionloop.preprocessing import VIEWS
from captionloop.vision import feature_caching, runtimes
from captionloop.vision.encoder import Encoder
from captionloop.vision.feature_caching import CachingParameters, WorkerShard, cache_features, cache_folders
from captionloop.vision.feature_store import FeatureStore
from captionloop.vision.runtimes import make_runtime

Make = Callable[[int], tuple[pd.DataFrame, PhotoFolder]]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


def test_each_view_of_each_photo_is_what_the_encoder_sees(
    corpus: Make, encoder: Encoder, store: FeatureStore
) -> None:
    images, photos = corpus(9)
    views = ("whole", "mirrored", "upper-left")
    manifest, report = cache_features(images, photos, encoder, store, CachingParameters(views=views))
    features = manifest.open()
    runtime = make_runtime(encoder, device="cpu", purpose="throughput")
    assert (report.encoded, report.found, report.missing) == (27, 0, 0)
    for view in views:
        pixels = [load_square(photos.read(uri), 32, VIEWS[view]) for uri in images["uri"]]
        assert (features.grids(images["sha256"].tolist(), view) == runtime.encode(np.stack(pixels))).all()
    assert features.views == views
    assert features.regions == features.rows * features.columns == encoder.regions


def test_what_is_there_is_not_computed_again(
    corpus: Make, encoder: Encoder, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, photos = corpus(6)
    cache_features(images.head(4), photos, encoder, store, CachingParameters())
    _, second = cache_features(images, photos, encoder, store, CachingParameters())
    assert (second.encoded, second.found) == (2, 4)
    monkeypatch.setattr(feature_caching, "make_runtime", None)  # a third run must not need an engine at all
    _, third = cache_features(images, photos, encoder, store, CachingParameters())
    assert (third.encoded, third.found) == (0, 6)


def test_the_same_photo_under_two_names_is_encoded_once(
    corpus: Make, encoder: Encoder, store: FeatureStore
) -> None:
    images, photos = corpus(2)
    twice = pd.concat([images, images.head(1).assign(image_id="again")])
    _, report = cache_features(twice, photos, encoder, store, CachingParameters())
    assert (report.photos, report.encoded) == (2, 2)


def test_workers_share_the_work_and_the_last_one_completes_it(
    corpus: Make, encoder: Encoder, store: FeatureStore
) -> None:
    images, photos = corpus(12)
    reports = []
    for worker in (1, 2, 3):
        parameters = CachingParameters(shard=f"{worker}/3")
        manifest, report = cache_features(images, photos, encoder, store, parameters)
        reports.append(report)
        if report.missing:
            with pytest.raises(
                StoreError, match=f"{report.missing} photos are missing; run the other shards"
            ):
                manifest.open()
    assert sum(report.encoded for report in reports) == 12
    assert reports[-1].missing == 0
    whole = FeatureStore(Path(store.root).parent / "whole")
    alone, _ = cache_features(images, photos, encoder, whole, CachingParameters())
    keys = images["sha256"].tolist()
    assert (alone.open().grids(keys) == manifest.open().grids(keys)).all()


@given(st.text("0123456789abcdef", min_size=64, max_size=64), st.integers(1, 20))
def test_each_photo_is_taken_by_exactly_one_worker(key: str, count: int) -> None:
    assert sum(WorkerShard(index, count).takes(key) for index in range(1, count + 1)) == 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "a/b", "1/0", "", "-1/4", "1/4/4"])
def test_a_malformed_shard_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not i/N"):
        WorkerShard.parse(text)


def test_a_photo_that_changed_since_validation_is_named(
    corpus: Make, encoder: Encoder, store: FeatureStore
) -> None:
    images, photos = corpus(3)
    photos.write("1.jpg", photos.read("2.jpg"))
    with pytest.raises(CorpusError, match=r"photo 1\.jpg has changed"):
        cache_features(images, photos, encoder, store, CachingParameters())


def test_a_photo_that_cannot_be_decoded_is_named(corpus: Make, encoder: Encoder, store: FeatureStore) -> None:
    images, photos = corpus(3)
    photos.write("1.jpg", b"no photo")
    images.loc[1, "sha256"] = hashlib.sha256(b"no photo").hexdigest()
    with pytest.raises(ImageError, match=r"1\.jpg: not an image"):
        cache_features(images, photos, encoder, store, CachingParameters())


def test_a_view_that_was_not_cached_is_named(corpus: Make, encoder: Encoder, store: FeatureStore) -> None:
    images, photos = corpus(2)
    manifest, _ = cache_features(images, photos, encoder, store, CachingParameters())
    with pytest.raises(StoreError, match="view 'mirrored' has not been cached"):
        manifest.open().grids(images["sha256"].tolist(), "mirrored")


def test_precisions_do_not_mix(
    corpus: Make, encoder: Encoder, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, photos = corpus(2)
    runtime = make_runtime(encoder, device="cpu")
    runtime.precision = "bfloat16"
    monkeypatch.setattr(feature_caching, "make_runtime", lambda *_args, **_options: runtime)
    with pytest.raises(EncoderError, match=r"set encoder.precision to bfloat16"):
        cache_features(images, photos, encoder, store, CachingParameters())


def test_features_that_are_no_numbers_are_not_stored(
    corpus: Make, encoder: Encoder, store: FeatureStore
) -> None:
    weights = {name: weight.clone() for name, weight in encoder.weights().items()}
    weights["bn1.bias"][:] = 1e30
    images, photos = corpus(2)
    with pytest.raises(EncoderError, match=r"features of this photo are not finite"):
        cache_features(images, photos, Encoder.build(encoder.spec, weights), store, CachingParameters())


def without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the machine has no instructions for it."""
    monkeypatch.setattr(runtimes, "_openvino_does_bfloat16", lambda: False)


@pytest.fixture
def fast(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> Encoder:
    """An encoder that another machine, with bfloat16, was made for; this one takes itself for that."""
    monkeypatch.setattr(runtimes, "_openvino_does_bfloat16", lambda: True)
    runtime = make_runtime(encoder, device="cpu", engine="openvino", purpose="throughput")
    runtime.encode(
        np.zeros((16, 32, 32, 3), np.uint8)
    )  # compiled, and in float32 whatever it says from now on
    runtime.precision = "bfloat16"
    monkeypatch.setattr(feature_caching, "make_runtime", lambda *_args, **_options: runtime)
    return encoder.respecified(precision="bfloat16")


def test_a_store_of_a_faster_machine_is_read_where_it_is_whole(
    corpus: Make, fast: Encoder, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, photos = corpus(3)
    made, _ = cache_features(images, photos, fast, store, CachingParameters())
    without_bfloat16(monkeypatch)
    found, report = cache_features(images.head(2), photos, fast, store, CachingParameters())
    assert (report.encoded, report.found, report.precision) == (0, 2, "bfloat16")
    assert found.views == made.views


def test_a_store_of_a_faster_machine_is_not_filled_up_with_other_numbers(
    corpus: Make, fast: Encoder, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All photos are encoded anew, under the fingerprint of float32; what was there stays, for others."""
    images, photos = corpus(4)
    made, _ = cache_features(images.head(3), photos, fast, store, CachingParameters())
    monkeypatch.undo()
    without_bfloat16(monkeypatch)
    found, report = cache_features(images, photos, fast, store, CachingParameters())
    assert (report.encoded, report.missing, report.precision) == (4, 0, "float32")
    assert found.views["whole"] == fast.respecified(precision="float32").fingerprint != made.views["whole"]
    assert found.fingerprint == fast.fingerprint  # whose features they are, training asks by this
    assert made.missing() == found.missing() == 0
    folders = [(photos, images.head(2)), (photos, images.tail(2))]
    together, reports = cache_folders(folders, fast, store, CachingParameters())
    assert together.views == found.views
    assert [report.encoded for report in reports] == [0, 0]
