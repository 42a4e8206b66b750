"""The simplest form of a corpus of one's own: a CSV file with a row for each caption."""

import csv
import io

from captionloop.corpus.readers.files import read_text
from captionloop.corpus.tables import RawCorpus, split_name
from captionloop.errors import CorpusError

_COLUMNS = ("image", "caption", "split")


def read_csv(path: str) -> RawCorpus:
    """Reads the columns `image` (the photo's uri), `caption` and `split`; others are ignored.

    An image stands in as many rows as it has captions; where its rows name several splits, each gives an
    image row, which validation then reports. An empty caption on an image's only row means that it has none
    yet. Raises `CorpusError` for a missing file or column, or a row of another length.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    images: dict[tuple[str, str, str], None] = {}
    captions: list[tuple[str, str, str]] = []
    count: dict[str, int] = {}
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
            uri = row[image_at].strip()
            images[uri, uri, split_name(row[split_at])] = None
            captions.append((f"{uri}#{count.get(uri, 0)}", uri, row[caption_at]))
            count[uri] = count.get(uri, 0) + 1
    except csv.Error as error:
        raise CorpusError(f"{path}, line {reader.line_num} is not readable CSV ({error})") from error
    return RawCorpus.from_rows(images, captions)
