"""Readers of the forms in which caption corpora are published, each into a `RawCorpus`."""

from captionloop.corpus.readers.coco import read_coco
from captionloop.corpus.readers.flickr import read_flickr
from captionloop.corpus.readers.karpathy import read_karpathy, was_written_here, write_karpathy
from captionloop.corpus.readers.table import read_csv

__all__ = ["read_coco", "read_csv", "read_flickr", "read_karpathy", "was_written_here", "write_karpathy"]
