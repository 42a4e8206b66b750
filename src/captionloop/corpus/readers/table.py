"""The simplest form of a corpus of one's own: a CSV file with a row for each caption."""

import csv
import io

from captionloop.corpus.readers.assembly import ReadImage, assemble, read_id, read_uri
from captionloop.corpus.readers.files import read_text
from captionloop.corpus.tables import RawCorpus, split_name
from captionloop.errors import CorpusError

_COLUMNS = ("image", "caption", "split")


def read_csv(path: str) -> RawCorpus:
    """Reads the columns `image` (the photo's uri), `caption` and `split`; others are ignored.

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
            [text for text, _ in said],
            frozenset(place for place, (_, again) in enumerate(said) if again),
        )
        for (uri, split), said in texts.items()
    )


def _rows(path: str, text: str) -> dict[tuple[str, str], list[tuple[str, bool]]]:
    """The captions of each (uri, split), each with whether its row was there before."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    texts: dict[tuple[str, str], list[tuple[str, bool]]] = {}
    seen: set[tuple[str, ...]] = set()
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        for column in _COLUMNS:
            if column not in header:
                raise CorpusError(
                    f"{path} has no column {column!r} in its first line: name them image,caption,split"
                )
        image_at, caption_at, split_at = (header.index(column) for column in _COLUMNS)
        for row in reader:
            if not row:
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
