"""CIDEr, fast enough to be a training reward.

Vedantam et al. 2015, "CIDEr: Consensus-based Image Description Evaluation" (arXiv 1411.5726): equations 1
to 3, with the clipping and the Gaussian length penalty of CIDEr-D (section 4 of its supplement), because
that is what `pycocoevalcap.cider` computes under the name of CIDEr. The two agree to rounding; here the
references are counted once, and captions are scored in batches.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from captionloop.errors import ScoringError
from captionloop.scoring.ngrams import Integers, NgramCodes, NgramCounts, Ragged, Tokens, numbered

Floats = NDArray[np.float64]

HIGHEST_ORDER = 4
SIGMA = 6.0  # of the length penalty, in tokens: pycocoevalcap's
SCALE = 10.0


@dataclass(frozen=True)
class _Order:
    """The n-grams of one order in the references: idf, frequencies, and norms of the tf-idf vectors.

    `pairs` are the (image, n-gram) pairs that occur, as `image * size + code`, sorted; `frequencies[pairs,
    references]` says how often each of that image's references has the n-gram. Held as small integers,
    100,000 images with five references stay below 300 MB.
    """

    size: int
    idf: Floats  # [size]
    pairs: Integers
    frequencies: NDArray[np.uint8]
    norms: Floats  # [images, references]: lengths of the tf-idf vectors; 0 where there is none


class CiderD:
    """Scores captions of images whose references are known in advance.

    Args:
        references: for each image its reference captions, as token sequences (words, or token ids).
        corpus: the captions, in the same form, whose images make the document frequencies. By default the
            references themselves, as pycocoevalcap does; a single image then scores 0, since every n-gram
            is in every document.

    The end token is counted where the sequences have it, in references and hypotheses alike: leaving it
    out of a reward teaches a model to stop in mid-sentence (arXiv 2305.12254). A string is taken as words
    between spaces.

    Raises:
        ScoringError: there is no image, an image has no references, or words and token ids are mixed.
    """

    def __init__(
        self,
        references: Mapping[str, Sequence[Tokens]],
        *,
        corpus: Mapping[str, Sequence[Tokens]] | None = None,
    ) -> None:
        if not references:
            raise ScoringError(
                "There are no references to score against: give at least one image with captions."
            )
        self._rows = {image_id: row for row, image_id in enumerate(references)}
        self._counts = np.array([len(captions) for captions in references.values()], np.int64)
        if not self._counts.all():
            bare = next(image_id for image_id, captions in references.items() if not len(captions))
            raise ScoringError(f"Image {bare!r} has no reference captions: drop it, or give it at least one.")

        captions = list(chain.from_iterable(references.values()))
        documents = list((references if corpus is None else corpus).values())
        others = [] if corpus is None else list(chain.from_iterable(documents))
        self._numbers = _number_words(captions + others)
        self._codes = NgramCodes(numbered(captions + others, self._numbers), HIGHEST_ORDER)
        laid_out = numbered(captions, self._numbers)

        image = np.repeat(np.arange(len(self._counts)), self._counts)
        column = np.arange(len(captions)) - np.repeat(np.cumsum(self._counts) - self._counts, self._counts)
        self._lengths = np.zeros((len(self._counts), int(self._counts.max())))
        self._lengths[image, column] = _bigrams(laid_out)
        counts = list(self._codes.count(laid_out))
        self._log_documents = float(np.log(max(1, len(documents))))
        if corpus is None:
            frequencies = self._document_frequencies(counts, image)
        else:
            document = np.repeat(np.arange(len(documents)), [len(captions) for captions in documents])
            corpus_counts = self._codes.count(numbered(others, self._numbers))
            frequencies = self._document_frequencies(corpus_counts, document)
        self._orders = list(self._prepare(counts, frequencies, image, column))

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The images whose captions can be scored."""
        return tuple(self._rows)

    def score(self, predictions: Mapping[str, Tokens]) -> tuple[float, Floats]:
        """CIDEr of one caption for each image: the mean (1.0 is "100" in papers), and one value for each,
        in order.

        Raises:
            ScoringError: there are no hypotheses, or one is for an image without references.
        """
        if not predictions:
            raise ScoringError("There are no captions to score: give one for each image.")
        per_image = self.rewards(list(predictions), list(predictions.values()))
        return float(per_image.mean()), per_image

    def rewards(self, image_ids: Sequence[str], sequences: Sequence[Tokens]) -> Floats:
        """CIDEr of each sequence against the references of the image named beside it; images may repeat.

        Returns float64 `[sequences]`. An empty sequence earns 0.

        Raises:
            ScoringError: an image has no references here, or the two arguments differ in length.
        """
        if len(image_ids) != len(sequences):
            raise ScoringError(
                f"{len(sequences)} captions were given for {len(image_ids)} images: give one for each."
            )
        image = self._images(image_ids)
        predictions = numbered(sequences, self._numbers)
        total = np.zeros((len(sequences), self._lengths.shape[1]))  # [captions, references]
        for order, counts in zip(self._orders, self._codes.count(predictions), strict=True):
            idf = np.full(len(counts.code), self._log_documents)  # of an n-gram that the corpus does not have
            known = counts.code < order.size
            idf[known] = order.idf[counts.code[known]]
            norm = np.sqrt(np.bincount(counts.caption, (counts.frequency * idf) ** 2, len(sequences)))
            sums = self._shared(order, counts, known, image)
            scale = norm[:, None] * order.norms[image]
            total += np.divide(sums, scale, out=np.zeros_like(sums), where=scale > 0)
        delta = _bigrams(predictions)[:, None] - self._lengths[image]
        total *= np.exp(-(delta**2) / (2 * SIGMA**2))
        return np.asarray(SCALE / HIGHEST_ORDER * total.sum(axis=1) / self._counts[image])

    @staticmethod
    def _shared(order: _Order, counts: NgramCounts, known: NDArray[np.bool_], image: Integers) -> Floats:
        """The sum over n-grams of min(h, r) * r, the clipped product of the tf-idf weights: `[captions,
        references]`.
        """
        keys = image[counts.caption[known]] * order.size + counts.code[known]
        if not len(order.pairs):
            return np.zeros((len(image), order.norms.shape[1]))
        place = np.minimum(np.searchsorted(order.pairs, keys), len(order.pairs) - 1)
        found = order.pairs[place] == keys
        ours = counts.frequency[known][found, None]
        theirs = order.frequencies[place[found]].astype(np.float64)
        product = np.minimum(ours, theirs) * theirs * order.idf[counts.code[known][found], None] ** 2
        return _sum_rows(product, counts.caption[known][found], len(image))

    def _images(self, image_ids: Sequence[str]) -> Integers:
        try:
            return np.fromiter((self._rows[image_id] for image_id in image_ids), np.int64, len(image_ids))
        except KeyError as error:
            raise ScoringError(
                f"Image {error.args[0]!r} has a caption to score but no references: drop it, or add them."
            ) from None

    def _document_frequencies(self, counted: Iterable[NgramCounts], document: Integers) -> list[Integers]:
        """For each order, in how many documents each n-gram occurs, `[size]`; `document` tells where a
        caption belongs.
        """
        frequencies = []
        for size, counts in zip(self._codes.sizes, counted, strict=True):
            occurring = np.unique(document[counts.caption] * max(1, size) + counts.code)
            frequencies.append(np.bincount(occurring % max(1, size), minlength=size)[:size])
        return frequencies

    def _prepare(
        self,
        counted: list[NgramCounts],
        document_frequencies: list[Integers],
        image: Integers,
        column: Integers,
    ) -> Iterator[_Order]:
        for counts, documents in zip(counted, document_frequencies, strict=True):
            size = len(documents)
            idf = self._log_documents - np.log(np.maximum(1.0, documents))
            pairs, row = np.unique(image[counts.caption] * size + counts.code, return_inverse=True)
            frequencies = np.zeros((len(pairs), self._lengths.shape[1]), np.uint8)
            frequencies[row, column[counts.caption]] = np.minimum(counts.frequency, 255)
            squares = np.bincount(counts.caption, (counts.frequency * idf[counts.code]) ** 2, len(image))
            norms = np.zeros_like(self._lengths)
            norms[image, column] = np.sqrt(squares)
            yield _Order(size, idf, pairs, frequencies, norms)


def _number_words(captions: Sequence[Tokens]) -> dict[str, int] | None:
    """A number for every word; None where the captions hold token ids already."""
    first = next((caption[0] for caption in captions if len(caption)), "")
    if not isinstance(first, str):
        return None
    words = chain.from_iterable(
        caption.split() if isinstance(caption, str) else caption for caption in captions
    )
    return {str(word): number for number, word in enumerate(dict.fromkeys(words))}


def _bigrams(captions: Ragged) -> Integers:
    """Pycocoevalcap's length of a caption in the length penalty: its number of bigrams."""
    return np.maximum(captions.lengths - 1, 0)


def _sum_rows(values: Floats, row: Integers, rows: int) -> Floats:
    """Adds `values[n, references]` into `[rows, references]` by `row[n]`."""
    references = values.shape[1]
    flat = (row[:, None] * references + np.arange(references)).ravel()
    return np.bincount(flat, values.ravel(), rows * references).astype(np.float64).reshape(rows, references)
