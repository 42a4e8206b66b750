"""How a captioner is trained: parameters readable without importing torch."""

import math
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from captionloop.captioner.architectures import DecoderConfig
from captionloop.captioner.options import DecodingOptions
from captionloop.language.languages import Language


class ValidationParameters(BaseModel):
    """What is done on the validation split after every epoch.

    Attributes:
        photos: of the split, the first so many; None for all.
        beam_width: of the captions whose CIDEr chooses the epoch to keep; 1, greedy, is fastest.
        patience: epochs without a better CIDEr before training stops.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    photos: int | None = Field(default=None, gt=0)
    beam_width: int = Field(default=1, ge=1)
    patience: int = Field(default=5, ge=1)


class ProcessParameters(BaseModel):
    """Where training runs.

    Attributes:
        accelerator: `auto` is a GPU where there is one.
        devices: GPUs, or processes on a CPU; more than one is data-parallel (DistributedDataParallel), with
            `batch_size` captions in each.
        nodes: machines, for Lightning under torchrun or SLURM.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    accelerator: Literal["auto", "cpu", "gpu"] = Field(
        default="auto", json_schema_extra={"affects_result": False}
    )
    devices: int = Field(default=1, ge=1)
    nodes: int = Field(default=1, ge=1)


class FitParameters(BaseModel):
    """What teaching by words and teaching by reward have in common.

    Attributes:
        name: of the captioner that comes out.
        seed: of weights, data order, dropout and views; the order is a function of it and the epoch alone.
        batch_size: captions in a step.
        learning_rate: of AdamW, reached after `warmup` (a share of all steps), then falling along a cosine to
            `final_learning_rate` (a share of it).
        clip_norm: gradients are scaled down to this norm.
        average_decay: of the exponential moving average of the weights that is validated and kept; 0: none.
        views: of the cached features, one drawn for each photo and epoch; validation sees the first.
        precision: of matrix products; `auto` is bfloat16 where the hardware multiplies it fast.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = "captioner"
    seed: int = 0
    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=80, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    final_learning_rate: float = Field(default=0.02, ge=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0)
    clip_norm: float = Field(default=5.0, gt=0)
    average_decay: float = Field(default=0.99, ge=0, lt=1)
    views: tuple[str, ...] = Field(default=("whole",), min_length=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    validation: ValidationParameters = ValidationParameters()
    processes: ProcessParameters = ProcessParameters()


class VocabularyParameters(BaseModel):
    """Which words a captioner knows: those seen `min_frequency` times in training, or `subwords` learnt
    pieces.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    min_frequency: int = Field(default=3, ge=1)
    subwords: int | None = Field(default=None, ge=32)


class TrainingParameters(FitParameters):
    """Teaching by words: cross-entropy under teacher forcing.

    Attributes:
        captions_per_photo: how many captions of a photo share a step, and so its features and keys. All
            captions are seen in every epoch, whatever this is.
        max_length: longer captions are cut, in tokens.
        label_smoothing: share of the target spread over all words (Szegedy et al. 2016).
        doubly_stochastic: weight of the attention regularisation of Xu et al. 2015, equation 14.
        decoding: what the captioner's bundle says about searching.
    """

    decoder: DecoderConfig
    vocabulary: VocabularyParameters = VocabularyParameters()
    captions_per_photo: int = Field(default=5, ge=1)
    max_length: int = Field(default=24, ge=1)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    doubly_stochastic: float = Field(default=1.0, ge=0)
    decoding: DecodingOptions = DecodingOptions()


class SelfCriticalParameters(FitParameters):
    """Teaching by reward: self-critical sequence training on CIDEr-D (Rennie et al. 2017).

    Attributes:
        batch_size: here, photos in a step.
        samples: captions drawn for each photo.
        baseline: what a sample must beat: the `greedy` caption (Rennie et al.), or the `mean` of the photo's
            other samples (Luo 2020, "A Better Variant of Self-Critical Sequence Training").
        temperature: of the samples.
        cross_entropy: weight of the teacher-forcing loss that is mixed in.
        decoding: what the captioner's bundle says about searching; None leaves it as it is.
    """

    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=5e-5, gt=0)
    samples: int = Field(default=5, ge=1)
    baseline: Literal["greedy", "mean"] = "mean"
    temperature: float = Field(default=1.0, gt=0)
    cross_entropy: float = Field(default=0.0, ge=0)
    max_length: int = Field(default=24, ge=1)
    decoding: DecodingOptions | None = None


_Taught = TypeVar("_Taught", TrainingParameters, SelfCriticalParameters)
_LONGEST = 200


def in_tokens(parameters: _Taught, language: Language) -> _Taught:
    """The same with lengths in tokens, where configurations say them in words.

    A language that is cut into characters has several tokens to a word; elsewhere nothing changes.
    """
    if language.is_spaced:
        return parameters
    decoding = parameters.decoding
    if decoding is not None:
        decoding = decoding.model_copy(
            update={
                "max_length": min(_LONGEST, _times(decoding.max_length, language)),
                "no_repeat_ngram": _times(decoding.no_repeat_ngram, language),
            }
        )
    longest = _times(parameters.max_length, language)
    return parameters.model_copy(update={"max_length": longest, "decoding": decoding})


def _times(words: int, language: Language) -> int:
    return math.ceil(words * language.tokens_per_word)


class EnsembleParameters(BaseModel):
    """Captioners that caption together: one taught by words, one taught on from it by reward, and siblings.

    Attributes:
        name: of the captioner that they are together.
        seeds: for each, a sibling is taught by the same two recipes and joins them.
        decoding: how they search; None is how the one taught by reward does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = "ensemble"
    seeds: tuple[int, ...] = ()
    decoding: DecodingOptions | None = None

    @field_validator("seeds")
    @classmethod
    def _differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("two members of the same seed are the same member: give each its own")
        return seeds
