"""A trained captioner: photos in, captions out. One implementation for notebook, evaluation and service."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from captionloop.captioner.model_config import Calibration, DecodingOptions, mean_confidence
from captionloop.errors import ConfigurationError
from captionloop.tokenizer import CaptionTokenizer, Span, sentence
from captionloop.vision.embedding import Familiarity, PhotoFamiliarity, embed

if TYPE_CHECKING:  # whoever only names a captioner need not wait for torch
    from torch import Tensor

    from captionloop.captioner.beam_search import Hypothesis
    from captionloop.captioner.consensus import NeighbourIndex
    from captionloop.captioner.decoders.base import Decoder
    from captionloop.vision.encoder import Encoder
    from captionloop.vision.runtimes import EncoderRuntime

_BATCH = 32


@dataclass(frozen=True)
class Word:
    """A word, its confidence (0 to 1), and its attention over the photo (`[rows, columns]`, sum 1)."""

    text: str
    confidence: float
    attention: NDArray[np.float32] | None


@dataclass(frozen=True)
class Caption:
    """One caption of an image. `confidence`: how often a person would accept a caption like it, where the
    calibration knows that, else the geometric mean of its words'. `log_probability` counts the end.
    """

    text: str
    words: tuple[Word, ...]
    log_probability: float
    confidence: float


@dataclass(frozen=True)
class Captioned:
    """The captions of one image, best first, its embedding and its familiarity (`vision/embedding.py`); the
    last two None where they are not known.
    """

    alternatives: tuple[Caption, ...]
    embedding: NDArray[np.float32] | None = field(default=None, compare=False)
    familiarity: PhotoFamiliarity | None = field(default=None, compare=False)

    @property
    def best(self) -> Caption:
        """The caption to show."""
        return self.alternatives[0]


@dataclass(eq=False)
class Captioner:
    """An encoder, a decoder and a tokenizer that belong together, and how captions are searched for.

    Attributes:
        decoding: the default search; each captioning call may be given another.
        neighbours: index of the training photos for consensus re-ranking; None without one.
        calibration: fitted on `val` by evaluation; None leaves the decoder's probabilities as confidences.
        familiarity: embeddings of its training photos, from evaluation; None before that.
        metrics: of its evaluation, as fractions. lineage: what it was made from. card: the model card
        (Markdown). device: where the decoder runs, and the encoder's runtime; None for a GPU where there is
        one. streams: how many threads caption at once; the encoder's runtime shares out the cores among them.
        carries_base: whether its bundle holds what it is built on, where that is else referred to.
    """

    name: str
    encoder: Encoder
    decoder: Decoder
    tokenizer: CaptionTokenizer
    decoding: DecodingOptions = field(default_factory=DecodingOptions)
    neighbours: NeighbourIndex | None = None
    calibration: Calibration | None = None
    familiarity: Familiarity | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)
    card: str = ""
    device: str | None = None
    streams: int = 1
    carries_base: bool = False

    def __post_init__(self) -> None:
        import torch

        from captionloop.captioner.decoding import PrepackedDecoder

        self._device = torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.decoder.eval().to(self._device)
        self._runtime: EncoderRuntime | None = None
        self._prepacked_decoder = PrepackedDecoder(self.decoder)
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """For another process: what it is made of, without the runtimes, which each process makes itself."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    @classmethod
    def load(cls, path: str | Path, device: str | None = None, streams: int = 1) -> Self:
        """Read a bundle, every file of it verified.

        Raises:
            BundleError: it is incomplete, damaged, or of a format that this version does not read.
        """
        from captionloop.captioner.bundle import load_bundle

        return cls(**load_bundle(Path(path)), device=device, streams=streams)

    def save(self, path: str | Path) -> None:
        """Write the bundle; a folder that is there already is replaced in one step."""
        from captionloop.captioner.bundle import save_bundle

        save_bundle(self, Path(path))

    @property
    def input_size(self) -> int:
        """Edge of the square that it sees, in pixels."""
        return int(self.encoder.spec.input_size)

    def describe(self) -> str:
        """What it is made of, in a sentence or two (Markdown)."""
        from captionloop.captioner.families import family_of

        return family_of(self.decoder.family).describe(self)

    @property
    def runtime(self) -> EncoderRuntime:
        """What runs the encoder on this machine; made at the first photo, as it takes a second or so."""
        with self._lock:
            if self._runtime is None:
                from captionloop.vision.runtimes import make_runtime

                self._runtime = make_runtime(self.encoder, device=self.device, streams=self.streams)
            return self._runtime

    def prepare(self, image: bytes) -> NDArray[np.uint8]:
        """An encoded photo as the square that the encoder sees: uint8 `[S, S, 3]`.

        Raises:
            ImageError: it cannot be decoded, or is too large.
        """
        from captionloop.images import load_square

        return load_square(image, self.input_size, by=self.encoder.spec.preprocessing)

    def caption(self, images: Sequence[bytes], decoding: DecodingOptions | None = None) -> list[Captioned]:
        """Caption encoded photos (JPEG, PNG, ...); attention lies over all of each photo.

        Raises:
            ImageError: one of them cannot be decoded; `prepare` each by itself to learn which.
        """
        captioned: list[Captioned] = []
        for start in range(0, len(images), _BATCH):
            squares = np.stack([self.prepare(image) for image in images[start : start + _BATCH]])
            captioned += self.caption_arrays(squares, decoding)
        return [self._over_photo(one, image) for one, image in zip(captioned, images, strict=True)]

    def caption_arrays(
        self, squares: NDArray[np.uint8], decoding: DecodingOptions | None = None
    ) -> list[Captioned]:
        """Caption prepared photos: uint8 `[B, S, S, 3]`; attention lies over what they show."""
        captioned: list[Captioned] = []
        for start in range(0, len(squares), _BATCH):
            captioned += self.caption_grids(self.runtime.encode(squares[start : start + _BATCH]), decoding)
        return captioned

    def caption_grids(
        self, grids: NDArray[Any] | Tensor, decoding: DecodingOptions | None = None
    ) -> list[Captioned]:
        """Caption photos whose features are known: float `[B, R, C]`, one batch."""
        if not len(grids):
            return []
        import torch

        found = self.decode_grids(grids, decoding)
        embeddings = embed(torch.as_tensor(grids).float().mean(1).cpu().numpy())
        familiarities = self.familiarity(embeddings) if self.familiarity else [None] * len(embeddings)
        return [
            Captioned(tuple(self._caption(one) for one in hypotheses), embedding, familiarity)
            for hypotheses, embedding, familiarity in zip(found, embeddings, familiarities, strict=True)
        ]

    def decode_grids(
        self, grids: NDArray[Any] | Tensor, decoding: DecodingOptions | None = None
    ) -> list[list[Hypothesis]]:
        """As `caption_grids`, in tokens.

        Raises:
            ConfigurationError: a consensus is asked for, and this captioner remembers no training photos.
        """
        import torch

        options = decoding or self.decoding
        features = torch.as_tensor(grids).to(self._device).float()
        if options.consensus is None or options.method != "beam" or options.beam_width == 1:
            return self._prepacked_decoder.decode(features, options)
        if self.neighbours is None:
            raise ConfigurationError(
                f"'{self.name}' remembers no training photos to find a consensus with: train it with"
                " decoding.consensus, or caption without"
            )
        all_found = options.model_copy(update={"alternatives": options.beam_width})
        found = self._prepacked_decoder.decode(features, all_found)
        means = features.mean(1).cpu().numpy()
        ranked = self.neighbours.rank(means, found, options.consensus)
        return [of_image[: options.alternatives] for of_image in ranked]

    def _over_photo(self, captioned: Captioned, image: bytes) -> Captioned:
        """The same with attention over all of the photo, where the encoder sees a part of it."""
        spec = self.encoder.spec
        if spec.preprocessing.sees_everything:
            return captioned
        from captionloop.images import open_photo

        photo = open_photo(image)

        def over_photo(word: Word) -> Word:
            if word.attention is None:
                return word
            seen = spec.preprocessing.over_photo(word.attention, photo.width, photo.height, spec.input_size)
            return replace(word, attention=seen)

        alternatives = tuple(
            replace(caption, words=tuple(map(over_photo, caption.words)))
            for caption in captioned.alternatives
        )
        return replace(captioned, alternatives=alternatives)

    def _caption(self, hypothesis: Hypothesis) -> Caption:
        words = tuple(self._word(span, hypothesis) for span in self.tokenizer.spans(hypothesis.tokens))
        confidences = [word.confidence for word in words]
        return Caption(
            text=sentence([word.text for word in words], self.tokenizer.language),
            words=words,
            log_probability=hypothesis.log_probability,
            confidence=(self.calibration.of_caption if self.calibration else mean_confidence)(confidences),
        )

    def _word(self, span: Span, hypothesis: Hypothesis) -> Word:
        probability = float(np.exp(hypothesis.token_log_probs[span.start : span.stop].sum()))
        attention = None
        if hypothesis.attention is not None:
            grid = hypothesis.attention[span.start : span.stop].mean(0)
            attention = self.encoder.picture(grid)
        confidence = min(1.0, probability if self.calibration is None else self.calibration(probability))
        return Word(span.word, confidence, attention)
