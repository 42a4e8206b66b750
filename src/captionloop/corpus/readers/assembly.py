"""One id for each image of a corpus, wherever several files or splits number theirs from 1."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from captionloop.corpus.tables import RawCorpus
from captionloop.errors import CorpusError


@dataclass(frozen=True)
class ReadImage:
    """An image as one file tells it; `group` is that within which its id is its own: a file, or a split.

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
        name = _told_apart(image, places) if image.image_id in shared else image.image_id
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


def _told_apart(image: ReadImage, taken: Iterable[str]) -> str:
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
