"""COCO's captions JSON, as `captions_train2014.json` has it (Chen et al. 2015)."""

from collections.abc import Mapping, Sequence
from typing import Any

from captionloop.corpus.readers.assembly import ReadImage, assemble, group_names, read_id, read_uri
from captionloop.corpus.readers.files import entries, field, read_json_object
from captionloop.corpus.tables import RawCorpus, split_name


def read_coco(splits: Mapping[str, Sequence[str]], folders: Mapping[str, str] | None = None) -> RawCorpus:
    """Reads annotation files, one or several for each split.

    Args:
        splits: the files of each split, `{"train": ["captions_train2014.json"], "val": [...]}`.
        folders: where a split's photos lie below the photo folder, `{"train": "train2014"}`; the root by
        default.

    Ids count within their file: where two files use one id for different photos, each gets its split's name
    before it (`val:7`), or its file's. A caption's id is the image's with `#` and its place, so that the same
    corpus in Karpathy's form has the same ids. Raises `CorpusError` for a missing file or another structure.
    """
    files = [(split_name(split), split, path) for split, paths in splits.items() for path in paths]
    images: list[ReadImage] = []
    orphans: list[tuple[str, str, Any]] = []
    for group, (split, key, path) in zip(
        group_names([(split, path) for split, _, path in files]), files, strict=True
    ):
        document = read_json_object(path)
        texts: dict[str, list[Any]] = {}
        for number, entry in enumerate(entries(document, "images", path)):
            where = f"{path}: images[{number}]"
            image_id = read_id(field(entry, "id", where), f"{where}.id")
            uri = read_uri(field(entry, "file_name", where), (folders or {}).get(key, ""))
            # All images of one id share its captions; where they are several photos, validation rejects them.
            images.append(
                ReadImage(
                    image_id, uri, split, group, [] if image_id in texts else texts.setdefault(image_id, [])
                )
            )
        for number, entry in enumerate(entries(document, "annotations", path)):
            where = f"{path}: annotations[{number}]"
            image_id = read_id(field(entry, "image_id", where), f"{where}.image_id")
            text = field(entry, "caption", where)
            if image_id in texts:
                texts[image_id].append(text)
            else:
                orphans.append((group, image_id, text))
    return assemble(images, orphans)
