"""A caching run as a process of its own: `python caching_process.py FOLDER SHARD ENGINE`."""

import hashlib
import json
import sys
from pathlib import Path

import pandas as pd

from captionloop.corpus.scenes import SceneParameters, draw_scenes
from captionloop.photos import PhotoFolder
from captionloop.vision.encoder import Encoder, EncoderSpec
from captionloop.vision.feature_caching import CachingParameters, cache_features
from captionloop.vision.feature_store import FeatureStore

FRAGMENT_ENTRIES = 16


def main() -> None:
    folder, shard, engine = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    photos, rows = PhotoFolder(str(folder / "photos")), []
    for scene in draw_scenes(SceneParameters(train=400, val=1, test=1, side=32)):
        if not (folder / "photos" / scene.name).exists():
            photos.write(scene.name, scene.photo)
        rows.append((scene.name, hashlib.sha256(scene.photo).hexdigest()))
    images = pd.DataFrame(rows, columns=["uri", "sha256"])
    encoder = Encoder.build(EncoderSpec(architecture="resnet10", input_size=32, layer="layer1"))
    store = FeatureStore(
        folder / "store", fragment_bytes=FRAGMENT_ENTRIES * 2 * encoder.regions * encoder.channels
    )
    parameters = CachingParameters.model_validate(
        {"views": ("whole", "mirrored"), "shard": shard, "engine": engine, "ray": {"photos": 16}}
    )
    print("begin", flush=True)
    manifest, report = cache_features(images, photos, encoder, store, parameters)
    digest, rows = hashlib.sha256(), 0
    if not report.missing:
        features = manifest.open()
        for view in features.views:
            digest.update(features.grids(sorted(manifest.photos), view).tobytes())
        rows = sum(len(table.open() or ()) for table in store.tables())
    result = {"features": digest.hexdigest(), "rows": rows}
    print(json.dumps(result | {"encoded": report.encoded, "missing": report.missing}))


if __name__ == "__main__":
    main()
