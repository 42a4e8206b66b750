"""Flickr8k's and Flickr30k's form: a token file and the photo names of each split (Hodosh et al. 2013)."""

from collections.abc import Mapping, Sequence

from captionloop.corpus.readers.assembly import read_id, read_uri
from captionloop.corpus.readers.files import read_text
from captionloop.corpus.tables import RawCorpus, split_name
from captionloop.errors import CorpusError


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
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        key, tab, text = line.rstrip("\r").partition("\t")
        name, mark, place = key.strip().rpartition("#")
        if not (tab and mark and name and place.isdigit()):
            raise CorpusError(
                f"{path}, line {number}, is not 'photo.jpg#0<TAB>text' ({line[:30]!r}): is it a token file?"
            )
        name = read_id(read_uri(name), path)
        captions += [(f"{image_id}#{place}", image_id, text) for image_id in ids(name)]
    return RawCorpus.from_rows(images, captions)


def _lines(path: str) -> list[str]:
    return [line.strip() for line in read_text(path).split("\n") if line.strip()]
