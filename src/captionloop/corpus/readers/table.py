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
    each, with the captions of those rows, and validation finds that the photos are the same. An empty caption
    on an image's only row means that it has none yet. Raises `CorpusError` for a missing file or column, or a
    row of another length.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    texts: dict[tuple[str, str], list[str]] = {}
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
            texts.setdefault(place, []).append(row[caption_at])
    except csv.Error as error:
        raise CorpusError(f"{path}, line {reader.line_num} is not readable CSV ({error})") from error
    return assemble(
        ReadImage(read_id(uri, path), uri, split, split, said) for (uri, split), said in texts.items()
    )
