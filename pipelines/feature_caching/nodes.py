"""The node of feature caching."""

from typing import Any

import pandas as pd

from captionloop.photos import PhotoFolder
from captionloop.vision.encoder import Encoder
from captionloop.vision.feature_caching import CachingParameters, cache_features
from captionloop.vision.feature_store import FeatureManifest, FeatureStore


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
