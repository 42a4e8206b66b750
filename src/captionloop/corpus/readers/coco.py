"""COCO's captions JSON, as `captions_train2014.json` has it (Chen et al. 2015)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from captionloop.corpus.readers.files import entries, field, read_json_object
from captionloop.corpus.tables import RawCorpus, split_name


def read_coco(splits: Mapping[str, Sequence[str]], folders: Mapping[str, str] | None = None) -> RawCorpus:
    """Reads annotation files, one or several for each split.

    Args:
        splits: the files of each split, `{"train": ["captions_train2014.json"], "val": [...]}`.
        folders: where a split's photos lie below the photo folder, `{"train": "train2014"}`; the root by
        default.

    A caption's id is the image's with `#` and its place, so that the same corpus in Karpathy's form has the
    same ids. Raises `CorpusError` for a missing file or another structure.
    """
    images: list[tuple[str, str, str]] = []
    captions: list[tuple[str, str, Any]] = []
    seen: Counter[str] = Counter()
    for split, paths in splits.items():
        folder = PurePosixPath((folders or {}).get(split, ""))
        for path in paths:
            document = read_json_object(path)
            for number, entry in enumerate(entries(document, "images", path)):
                where = f"{path}: images[{number}]"
                uri = str(folder / str(field(entry, "file_name", where)))
                images.append((str(field(entry, "id", where)), uri, split_name(split)))
            for number, entry in enumerate(entries(document, "annotations", path)):
                where = f"{path}: annotations[{number}]"
                image_id = str(field(entry, "image_id", where))
                captions.append((f"{image_id}#{seen[image_id]}", image_id, field(entry, "caption", where)))
                seen[image_id] += 1
    return RawCorpus.from_rows(images, captions)
