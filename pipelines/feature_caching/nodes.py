"""The node of feature caching."""

from typing import Any

import pandas as pd

from captionloop.corpus.photos import PhotoFolder
from captionloop.vision.caching import CachingParameters, cache_features
from captionloop.vision.encoder import Encoder
from captionloop.vision.features import FeatureManifest
from captionloop.vision.store import FeatureStore


def cache(
    images: pd.DataFrame,
    photos: PhotoFolder,
    encoder: Encoder,
    store: FeatureStore,
    parameters: CachingParameters,
) -> tuple[FeatureManifest, dict[str, Any]]:
    """Encodes the photos that the store lacks, or this worker's share of them; tells what is there now."""
    manifest, report = cache_features(images, photos, encoder, store, parameters)
    return manifest, report.model_dump(mode="json")
