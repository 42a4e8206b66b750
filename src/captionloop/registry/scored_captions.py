"""Captions of one captioner for the evaluation set with their scores: the input of the gate."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from captionloop.errors import RegistryError, first_line
from captionloop.languages import ENGLISH, Language
from captionloop.scoring.cider import CiderD
from captionloop.scoring.scores import Scores, score, tokenized
from captionloop.tokenizer import word_tokens

CAPTIONS_FILE = "captions.json"
TRAINING_DATA = "training_data.json"
SILENCE = "xxsilencexx"  # scored in the place of an empty caption: a word that no reference has


def evaluation_set_hash(references: Mapping[str, Sequence[str]]) -> str:
    """One hash over the image ids and their references, in whatever order they are given."""
    canonical = {image_id: sorted(captions) for image_id, captions in references.items()}
    return hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()


class EvaluationCaptions(BaseModel):
    """Captions of every photo of an evaluation set by a captioner, stored beside its version.

    A later candidate is compared with these, without captioning the photos again, where the set is the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    evaluation_set: str
    captions: dict[str, str]

    def save(self, folder: Path) -> None:
        """Writes `captions.json` into the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CAPTIONS_FILE).write_text(self.model_dump_json(indent=0), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "EvaluationCaptions":
        """Raises `RegistryError` where the file is missing or not ours."""
        try:
            return cls.model_validate_json((folder / CAPTIONS_FILE).read_bytes())
        except (OSError, ValidationError) as error:
            reason = first_line(error)
            raise RegistryError(
                f"{folder / CAPTIONS_FILE} cannot be read ({reason}): register again"
            ) from error


def save_training_data(training_data: Mapping[str, Any], folder: Path) -> None:
    """Writes what a version was trained on (`TrainingData`, as JSON) into the folder of its evidence."""
    (folder / TRAINING_DATA).write_text(json.dumps(training_data), encoding="utf-8")


def load_training_data(folder: Path) -> dict[str, Any] | None:
    """What a version was trained on; None where that was not kept yet when it was registered."""
    try:
        found: dict[str, Any] = json.loads((folder / TRAINING_DATA).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RegistryError(f"{folder / TRAINING_DATA} cannot be read ({error}): register again") from error
    return found


@dataclass(frozen=True)
class ScoredCaptions:
    """Captions of one captioner for the evaluation set, with their scores.

    `seconds_per_photo` is the median time from photo to caption, measured beside the other captioner on the
    same machine; None where it was not measured.
    """

    name: str
    evaluation_set: str
    captions: Mapping[str, str]
    scores: Scores
    seconds_per_photo: float | None = None
    language: Language = ENGLISH

    @classmethod
    def by_all_metrics(
        cls,
        name: str,
        captions: Mapping[str, str],
        references: Mapping[str, Sequence[str]],
        seconds_per_photo: float | None = None,
        language: Language = ENGLISH,
    ) -> "ScoredCaptions":
        """Scores the captions. Raises `ScoringError` where they do not go with the references.

        An empty caption scores nothing, where scoring by itself would refuse it: refusing is for the gate.
        """
        scored = {image_id: caption if caption.strip() else SILENCE for image_id, caption in captions.items()}
        return cls(
            name=name,
            evaluation_set=evaluation_set_hash(references),
            captions=captions,
            scores=score(scored, references, language),
            seconds_per_photo=seconds_per_photo,
            language=language,
        )

    @classmethod
    def by_cider(
        cls,
        name: str,
        captions: Mapping[str, str],
        references: Mapping[str, Sequence[str]],
        language: Language = ENGLISH,
    ) -> "ScoredCaptions":
        """As `by_all_metrics`, by CIDEr alone: for a comparison that asks nothing else."""
        texts = [*captions.values(), *(text for image_id in captions for text in references[image_id])]
        tokens = iter(tokenized(texts, language))
        words = {image_id: next(tokens).split() for image_id in captions}
        cider = CiderD({i: [next(tokens).split() for _ in references[i]] for i in captions})
        _, values = cider.score(words)
        columns = np.column_stack([values, np.ones(len(values))])
        scores = Scores(tuple(words), {"CIDEr": columns})
        return cls(name, evaluation_set_hash(references), captions, scores, language=language)

    @cached_property
    def words(self) -> list[list[str]]:
        """The words of every caption."""
        return [word_tokens(caption, self.language) for caption in self.captions.values()]

    @property
    def mean_length(self) -> float:
        """Words per caption, on average; where text is cut into characters, several of them are a word."""
        tokens = sum(map(len, self.words)) / max(len(self.words), 1)
        return tokens / self.language.tokens_per_word

    @property
    def empty_captions(self) -> int:
        """Photos about which nothing was said."""
        return sum(not words for words in self.words)

    @property
    def distinct_words(self) -> int:
        """Words that occur anywhere in the captions."""
        return len({word for words in self.words for word in words})

    @property
    def distinct_captions(self) -> int:
        """Captions that differ in their words."""
        return len({tuple(words) for words in self.words})
