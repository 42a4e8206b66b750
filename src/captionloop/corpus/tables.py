"""The canonical tables, and what a reader hands over before anything in it has been checked."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import pandas as pd

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
    """Images and captions as a file tells them, unchecked: only the structure of the file has been
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
