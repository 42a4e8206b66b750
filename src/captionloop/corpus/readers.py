"""Published forms of caption corpora in (COCO, Flickr, Karpathy, CSV), a `RawCorpus` out."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from unicodedata import category

import fsspec

from captionloop.corpus.tables import (
    RawCorpus,
    ReadImage,
    assemble,
    group_names,
    read_id,
    read_uri,
    split_name,
)
from captionloop.errors import CorpusError, in_a_line

_NO_TEXT: Final = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\x1f\x8b": "a gzip archive, to be unpacked first",
    b"PK\3\4": "a spreadsheet or a ZIP archive",
}
"""How files begin that are something else than text."""


def read_text(path: str) -> str:
    """A UTF-8 text file from a path or URI. Raises `CorpusError` where it is missing or not text."""
    try:
        with fsspec.open(path, "rb") as file:
            data: bytes = file.read()
        text = data.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise CorpusError(f"There is no file {path}: check the path, see docs/data.md") from error
    except UnicodeDecodeError as error:
        kinds = (name for start, name in _NO_TEXT.items() if data.startswith(start))
        kind = next(kinds, "Latin-1 or another encoding")
        raise CorpusError(
            f"{path} is not UTF-8 text (byte {error.start}; it may be {kind}): save it as UTF-8"
        ) from error
    except Exception as error:  # each storage's driver has errors of its own kind
        raise CorpusError(
            f"{path} cannot be read ({in_a_line(error)}): check the path, see docs/data.md"
        ) from error
    if text[1:2] == "\0" or text[:1] == "\0":
        raise CorpusError(f"{path} is not UTF-8 text (it may be UTF-16): save it as UTF-8")
    return text


def read_json_object(path: str) -> dict[str, Any]:
    """A JSON document whose root is an object. Raises `CorpusError` naming line and column."""
    try:
        document = json.loads(read_text(path), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        else:
            where = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise CorpusError(f"{path} is not readable JSON ({where}): fetch or write it again") from error
    if not isinstance(document, dict):
        raise CorpusError(f"{path} holds a JSON {type(document).__name__} where an object is expected")
    return document


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Of a key that stands in it twice only the last would be read, and the others lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {repeated!r:.40} stands twice in one object")
    return found


def entries(document: dict[str, Any], key: str, path: str) -> list[dict[str, Any]]:
    """The list of objects under `key`. Raises `CorpusError` naming the key or the entry that is wrong."""
    found = document.get(key)
    if not isinstance(found, list):
        state = "is missing" if key not in document else f"is a {type(found).__name__}"
        raise CorpusError(f"{path}: the key {key!r}, a list of objects, {state}: is it the right format?")
    for number, entry in enumerate(found):
        if not isinstance(entry, dict):
            raise CorpusError(
                f"{path}: {key}[{number}] is a {type(entry).__name__} where an object is expected"
            )
    return found


def field(entry: dict[str, Any], key: str, where: str) -> Any:
    """`entry[key]`, or a `CorpusError` that says where it is missing."""
    try:
        return entry[key]
    except KeyError:
        raise CorpusError(f"{where} has no key {key!r}: is it the right format?") from None


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


def read_flickr(path: str, splits: Mapping[str, Sequence[str]]) -> RawCorpus:
    """Reads a token file (`photo.jpg#0<TAB>A caption .`) and the files that list the photos of each split.

    The photos are those that the split files name. Captions of other photos are kept as well, without an
    image, so that validation reports them. A photo that is listed in several splits is an image of each, with
    its split before its id (`val:photo.jpg`), and validation finds that the photos are the same. Raises
    `CorpusError` for a missing file or a line of another form.
    """
    listed = [
        (read_id(read_uri(name), listing), read_uri(name), split_name(split))
        for split, listings in splits.items()
        for listing in listings
        for name in _lines(listing)
    ]
    splits_of: dict[str, list[str]] = {}
    for name, _, split in listed:
        if split not in splits_of.setdefault(name, []):
            splits_of[name].append(split)

    def ids(name: str) -> list[str]:
        there = splits_of.get(name, [])
        return [f"{split}:{name}" for split in there] if len(there) > 1 else [name]

    images = [
        (f"{split}:{name}" if len(splits_of[name]) > 1 else name, uri, split) for name, uri, split in listed
    ]
    captions = []
    for number, line in enumerate(_split_lines(read_text(path)), start=1):
        if not line.strip():
            continue
        key, tab, text = line.partition("\t")
        name, mark, place = key.strip().rpartition("#")
        if not (tab and mark and name and place.isdigit()):
            raise CorpusError(
                f"{path}, line {number}, is not 'photo.jpg#0<TAB>text' ({line[:30]!r}): is it a token file?"
            )
        name = read_id(read_uri(name), path)
        captions += [(f"{image_id}#{place}", image_id, text) for image_id in ids(name)]
    return RawCorpus.from_rows(images, captions)


def _lines(path: str) -> list[str]:
    return [line.strip() for line in _split_lines(read_text(path)) if line.strip()]


def _split_lines(text: str) -> list[str]:
    """At what ends a line in a text file of any system, and at no other sign of Unicode."""
    return re.split(r"\r\n|\r|\n", text)


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


_COLUMNS = ("image", "caption", "split")
_SEPARATORS = (",", ";", "\t")


def read_csv(path: str) -> RawCorpus:
    """Reads the columns `image` (the photo's uri), `caption` and `split`; others are ignored. They stand
    between commas or, where the first line says so, semicolons or tabs, as spreadsheets write them.

    An image stands in as many rows as it has captions; where its rows name several splits, it is an image of
    each, with the captions of those rows, and validation finds that the photos are the same. Of rows that
    are equal in all columns, ignored ones too, validation keeps the first. An empty caption on an image's
    only row means that it has none yet. Raises `CorpusError` for a missing file or column, or a row of
    another length.
    """
    text = read_text(path)
    # A field longer than csv allows is a caption that is too long: validation rejects it, and not the file.
    allowed = csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    try:
        texts = _rows(path, text)
    finally:
        csv.field_size_limit(allowed)
    return assemble(
        ReadImage(
            read_id(uri, path),
            uri,
            split,
            split,
            [text for text, _ in rows],
            frozenset(place for place, (_, again) in enumerate(rows) if again),
        )
        for (uri, split), rows in texts.items()
    )


def _separator(text: str) -> str:
    """What stands between the columns of the first line."""
    first = _split_lines(text[:10_000])[0]
    named = (
        {name.strip().strip('"').lower() for name in first.split(separator)} for separator in _SEPARATORS
    )
    found = (each for each, names in zip(_SEPARATORS, named, strict=True) if names >= set(_COLUMNS))
    return next(found, _SEPARATORS[0])


def _rows(path: str, text: str) -> dict[tuple[str, str], list[tuple[str, bool]]]:
    """The captions of each (uri, split), each with whether its row was there before."""
    reader = csv.reader(
        io.StringIO(text, newline=""), strict=True, delimiter=_separator(text), skipinitialspace=True
    )
    texts: dict[tuple[str, str], list[tuple[str, bool]]] = {}
    seen: set[tuple[str, ...]] = set()
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        for column in _COLUMNS:
            if column not in header:
                raise CorpusError(
                    f"{path} has no column {column!r} in its first line: name them image,caption,split"
                )
            if header.count(column) > 1:
                times = header.count(column)
                raise CorpusError(
                    f"{path} has {times} columns {column!r}: give each caption a row of its own"
                )
        image_at, caption_at, split_at = (header.index(column) for column in _COLUMNS)
        for row in reader:
            if not any(field.strip() for field in row):
                continue
            if len(row) != len(header):
                raise CorpusError(
                    f"{path}, line {reader.line_num} has {len(row)} fields, not {len(header)}: "
                    'put captions that hold a comma in "quotes"'
                )
            place = read_uri(row[image_at].strip()), split_name(row[split_at])
            texts.setdefault(place, []).append((row[caption_at], tuple(row) in seen))
            seen.add(tuple(row))
    except csv.Error as error:
        raise CorpusError(f"{path}, line {reader.line_num} is not readable CSV ({error})") from error
    return texts
