"""Karpathy's `dataset_*.json`: images with their split and their sentences (Karpathy & Fei-Fei 2015)."""

import json
from collections.abc import Iterator
from typing import Any, Final
from unicodedata import category

from captionloop.corpus.readers.assembly import ReadImage, assemble, read_id, read_uri
from captionloop.corpus.readers.files import entries, field, read_json_object, read_text
from captionloop.corpus.tables import RawCorpus, split_name

_JOINERS: Final = "\u200c\u200d"
_SIGNATURE: Final = {"written_by": "captionloop"}


def read_karpathy(path: str) -> RawCorpus:
    """Reads one `dataset_*.json`.

    A photo's uri is its `filename`, below its `filepath` where it has one (COCO). Its id is COCO's `cocoid`
    where there is one, else the uri; where an id stands in two splits, with its split before it (`val:7`).
    A caption is the sentence's `raw` text; its id is the image's with `#`
    and its place. All splits present are read, `restval` as train. Raises `CorpusError` for another
    structure.
    """
    document = read_json_object(path)
    images = []
    for number, entry in enumerate(entries(document, "images", path)):
        where = f"{path}: images[{number}]"
        uri = read_uri(field(entry, "filename", where), entry.get("filepath"))
        image_id = read_id(entry["cocoid"], f"{where}.cocoid") if "cocoid" in entry else read_id(uri, where)
        split = split_name(field(entry, "split", where))
        images.append(ReadImage(image_id, uri, split, split, list(_sentences(entry, where))))
    return assemble(images)


def _sentences(entry: dict[str, Any], where: str) -> Iterator[Any]:
    for place, sentence in enumerate(entries(entry, "sentences", where)):
        yield field(sentence, "raw", f"{where}.sentences[{place}]")


def write_karpathy(corpus: RawCorpus, name: str) -> str:
    """The same form as text: what `read_karpathy` reads back. `tokens` are the words in lower case."""
    by_image = corpus.captions.groupby("image_id", sort=False)["text"].agg(list).to_dict()
    images, sentid = [], 0
    for imgid, row in enumerate(corpus.images.itertuples(index=False)):
        texts: list[str] = by_image.get(row.image_id, [])
        sentences = [
            {"tokens": _tokens(text), "raw": text, "imgid": imgid, "sentid": sentid + place}
            for place, text in enumerate(texts)
        ]
        sentid += len(sentences)
        images.append(
            {
                "imgid": imgid,
                "filename": row.uri,
                "split": row.split,
                "sentids": [sentence["sentid"] for sentence in sentences],
                "sentences": sentences,
            }
        )
    return json.dumps({"images": images, "dataset": name} | _SIGNATURE, ensure_ascii=False)


def was_written_here(path: str) -> bool:
    """Whether a file is one of `write_karpathy`'s, and not somebody's own captions."""
    return read_text(path).endswith(json.dumps(_SIGNATURE)[1:])


def _tokens(text: str) -> list[str]:
    """As the original files have them: letters and digits between spaces, with the marks of their letters."""
    kept = (
        c for c in text.lower() if c.isalnum() or c.isspace() or c in _JOINERS or category(c).startswith("M")
    )
    return "".join(kept).split()
