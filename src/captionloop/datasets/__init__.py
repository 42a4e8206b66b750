"""Every dataset by its name alone: `type: captionloop.datasets.PhotoFolderDataset` in a catalog.

Imported when asked for: a catalog without encoders needs no torch.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "atomic_datasets": (
        "AtomicFigureDataset",
        "AtomicJSONDataset",
        "AtomicParquetDataset",
        "AtomicTextDataset",
        "JSONFilesDataset",
        "SiteDataset",
        "CheckpointFolderDataset",
    ),
    "corpus_datasets": (
        "CorpusDataset",
        "PhotoArchiveDataset",
        "PhotoFolderDataset",
        "RatingsDataset",
        "SceneFactsDataset",
    ),
    "mlflow_datasets": ("TrackedCurvesDataset", "TrackedMetricsDataset"),
    "model_datasets": (
        "CaptionerDataset",
        "EncoderDataset",
        "FeatureStoreDataset",
        "FeaturesDataset",
        "ModelRegistryDataset",
        "PretrainedWeightsDataset",
        "RegisteredVersionDataset",
    ),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
