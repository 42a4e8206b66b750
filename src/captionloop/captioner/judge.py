"""How good the captions of a validation split are, without Java: CIDEr-D over the tokenizer's words."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from captionloop.captioner.photos import CaptionedPhotos
from captionloop.language.tokenizer import CaptionTokenizer
from captionloop.scoring.cider import CiderD


@dataclass(frozen=True)
class Judge:
    """Compares captions of `photos` with their references."""

    photos: CaptionedPhotos
    tokenizer: CaptionTokenizer

    @cached_property
    def _cider(self) -> CiderD:
        split = self.tokenizer.split
        references = zip(self.photos.image_ids, self.photos.texts, strict=True)
        return CiderD({image_id: [split(text) for text in texts] for image_id, texts in references})

    def cider(self, tokens: Mapping[int, tuple[int, ...]]) -> float:
        """CIDEr (1.0 is "100") of one caption for each photo, by position."""
        words = {
            self.photos.image_ids[photo]: self.tokenizer.decode(ids) for photo, ids in sorted(tokens.items())
        }
        return float(self._cider.score(words)[0])
