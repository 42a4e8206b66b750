"""Columns of the canonical tables, `RawCorpus` (unchecked tables of a reader), and ids of images."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final, Literal

import pandas as pd

from captionloop.errors import CorpusError
from captionloop.paths import printable

Split = Literal["train", "val", "test"]
SPLITS: Final[tuple[Split, ...]] = ("train", "val", "test")

#: Columns of the tables that leave `data_validation`, in this order, with their pandas types.
IMAGES: Final = {
    "image_id": "str",
    "uri": "str",
    "sha256": "str",
    "width": "int64",
    "height": "int64",
    "split": "str",
    "source": "str",
}
CAPTIONS: Final = {
    "caption_id": "str",
    "image_id": "str",
    "text": "str",
    "source": "str",
    "weight": "float64",
}
QUARANTINE: Final = {
    "kind": "str",
    "id": "str",
    "image_id": "str",
    "uri": "str",
    "text": "str",
    "reason": "str",
}

_SPLIT_NAMES = {"restval": "train", "training": "train", "dev": "val", "valid": "val", "validation": "val"}


def split_name(name: object) -> str:
    """The canonical name: Karpathy's `restval` counts as train, `dev` is val; others stay as they are."""
    text = "" if name is None else str(name).strip().lower()
    return _SPLIT_NAMES.get(text, text)


@dataclass(frozen=True)
class RawCorpus:
    """Images and captions as a file holds them, unchecked: only the structure of the file has been
    understood.

    `images` has the columns image_id, uri, split, source; `captions` has caption_id, image_id, text, source,
    weight, repeated (the same row stood there before). `text` may hold anything that the file held (null, a
    number), so that validation can find it and say so.
    """

    images: pd.DataFrame
    captions: pd.DataFrame

    @classmethod
    def from_rows(
        cls,
        images: Iterable[tuple[str, str, str]],
        captions: Iterable[tuple[str, str, Any]],
        repeated: Iterable[int] = (),
    ) -> "RawCorpus":
        """Builds the tables from (image_id, uri, split) and (caption_id, image_id, text); `repeated`: the
        places of captions that say again what a row before them said.
        """
        image_rows = [tuple(map(printable, row)) for row in images]
        caption_rows = [(printable(name), printable(image), text) for name, image, text in captions]
        image_table = pd.DataFrame(image_rows, columns=["image_id", "uri", "split"], dtype=object)
        caption_table = pd.DataFrame(caption_rows, columns=["caption_id", "image_id", "text"], dtype=object)
        strings = {"image_id": "str", "uri": "str", "split": "str"}
        return cls(
            images=image_table.astype(strings).assign(source="corpus"),
            captions=caption_table.astype({"caption_id": "str", "image_id": "str"}).assign(
                source="human", weight=1.0, repeated=caption_table.index.isin(list(repeated))
            ),
        )


def table(rows: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """`rows` with exactly `columns`, in their order and types, and a fresh index."""
    return rows.reset_index(drop=True).reindex(columns=list(columns)).astype(columns)


@dataclass(frozen=True)
class ReadImage:
    """An image as one file has it; its id is unique within its `group`: a file, or a split.

    `repeated`: which of its texts, counted from 0, stand in a row that stood there before.
    """

    image_id: str
    uri: str
    split: str
    group: str
    texts: Sequence[Any] = field(default_factory=list)
    repeated: Set[int] = frozenset()


def assemble(images: Iterable[ReadImage], orphans: Iterable[tuple[str, str, Any]] = ()) -> RawCorpus:
    """The corpus of these images with their captions, and of captions (group, image_id, text) whose
    image their group does not list.

    An id that names different photos, or one photo in different splits, in two groups gets its group before
    it (`val:7`). Within one group it stays, and validation rejects it. A caption's id is its image's with `#`
    and its place.
    """
    read = list(images)
    places: dict[str, set[tuple[str, str, str]]] = defaultdict(set)
    for image in read:
        places[image.image_id].add((image.group, image.uri, image.split))
    shared = {
        name for name, found in places.items() if len({(uri, split) for _, uri, split in found}) > 1
        and len({group for group, _, _ in found}) > 1
    }  # fmt: skip
    rows: list[tuple[str, str, str]] = []
    captions: list[tuple[str, str, Any]] = []
    repeated: list[int] = []
    count: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    for image in read:
        name = _unique_id(image, places) if image.image_id in shared else image.image_id
        rows.append((name, image.uri, image.split))
        again = (name, image.group) in seen  # its captions get the ids that are taken: validation says so
        seen.add((name, image.group))
        repeated += [len(captions) + place for place in image.repeated]
        for place, text in enumerate(image.texts, start=0 if again else count[name]):
            captions.append((f"{name}#{place}", name, text))
            count[name] = max(count[name], place + 1)
    for group, image_id, text in orphans:
        name = f"{group}:{image_id}" if image_id in places else image_id
        captions.append((f"{name}#{count[name]}", name, text))
        count[name] += 1
    return RawCorpus.from_rows(rows, captions, repeated)


def _unique_id(image: ReadImage, taken: Iterable[str]) -> str:
    name = f"{image.group}:{image.image_id}"
    while name in taken:
        name = f"{image.group}:{name}"
    return name


def group_names(files: Sequence[tuple[str, str]]) -> list[str]:
    """A short name for each (split, path): its split; where that has several files, with the file's name or,
    where that does not tell them apart either, its number.
    """
    names = [split for split, _ in files]
    with_stem = [f"{split}/{PurePosixPath(path).stem}" for split, path in files]
    numbered = [f"{split}/{number}" for number, (split, _) in enumerate(files, start=1)]
    for longer in (with_stem, numbered):
        times = Counter(names)
        names = [new if times[name] > 1 else name for name, new in zip(names, longer, strict=True)]
    return names


def read_id(value: object, where: str) -> str:
    """An id as text: 7, 7.0 and "7" are one and the same, "007" is another; composed Unicode.

    Raises:
        CorpusError: it is neither text nor a number.
    """
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - NaN
        raise CorpusError(
            f"{where} is {value!r:.40} where a number or text is expected: give each image an id"
        )
    return str(int(value)) if value == value // 1 else str(value)


def read_uri(value: object, folder: object = "") -> str:
    """A photo's path below `folder`: `a//b.jpg` and `./a/b.jpg` are `a/b.jpg`; empty where there is none."""
    if value is None or not str(value).strip():
        return ""
    return str(PurePosixPath("" if folder is None else str(folder), str(value)))
