"""How encoders and captioners are trained: pydantic models of `conf/`, readable without importing torch."""

import math
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from captionloop.captioner.model_config import DecoderConfig, DecodingOptions, LoraOptions, with_dropout
from captionloop.errors import ConfigurationError
from captionloop.hardware import Precision
from captionloop.languages import Language
from captionloop.preprocessing import SQUASHED, Preprocessing
from captionloop.vision.architectures import check_architecture, is_of_timm
from captionloop.vision.concepts import ConceptParameters
from captionloop.vision.encoder import EncoderSpec

_USUAL_SIZE = 224  # px, of torchvision's networks


class EncoderParameters(BaseModel):
    """Which encoder; the fields of `EncoderSpec`, and the seed of its weights where none are given.

    `precision: auto` is what this machine is fastest in: bfloat16 where it has instructions for it. bfloat16
    becomes float32 where the machine cannot compute in it: what is written down is what is computed.

    A model of timm brings its input size (`input_size: null`) and what its weights were fed: normalisation,
    interpolation, and by `crop: model` the part of a photo. `crop: whole` shows it all of every photo.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    architecture: str
    input_size: int | None = Field(default=None, ge=32, le=1024)
    layer: str | None = None
    precision: Precision | Literal["auto"] = "auto"
    crop: Literal["model", "whole"] = "model"
    seed: int = 0

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, architecture: str) -> str:
        """Raises `EncoderError`, or `ConfigurationError` without timm, before anything is computed."""
        check_architecture(architecture)
        return architecture

    def spec(self) -> EncoderSpec:
        """The specification, for this machine: its precision is one that the machine computes in.

        Raises:
            EncoderError: the architecture is unknown.
        """
        from captionloop.vision.runtimes import native_precision, usable_precision

        precision = native_precision() if self.precision == "auto" else usable_precision(self.precision)
        preprocessing, own_size = self._of_the_model()
        return EncoderSpec(
            architecture=self.architecture,
            input_size=self.input_size or own_size,
            layer=self.layer,
            precision=precision,
            preprocessing=preprocessing,
        )

    def _of_the_model(self) -> tuple[Preprocessing, int]:
        """What the model is fed, and the side of it in px."""
        if not is_of_timm(self.architecture):
            return SQUASHED, _USUAL_SIZE
        from captionloop.vision.timm_models import default_input_size, timm_preprocessing

        size = default_input_size(self.architecture)
        return timm_preprocessing(self.architecture, whole=self.crop == "whole"), size


class AugmentationParameters(BaseModel):
    """How a photo varies from epoch to epoch.

    Attributes:
        smallest_area: of the part that is shown, as a share of the photo; 1 shows all of it.
        mirror: mirrors every other photo.
        brightness, saturation: by how much they vary, as a share; 0 leaves them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    smallest_area: float = Field(default=0.5, gt=0, le=1)
    mirror: bool = True
    brightness: float = Field(default=0.2, ge=0, lt=1)
    saturation: float = Field(default=0.3, ge=0, lt=1)


class AdaptationParameters(BaseModel):
    """How an encoder is fine-tuned on visual concepts.

    Attributes:
        epochs: 0 leaves the encoder as it is.
        input_size: side of the square it is taught at, px; None is the encoder's own. Parts of photos,
            cropped and enlarged, show things larger than whole photos do, so an encoder does best at a size
            larger than the one it was taught at (Touvron et al. 2019, arXiv 1906.06423).
        frozen: the last layer that keeps its weights, by torchvision's name; None teaches all layers.
        batch_norm: `batch` estimates batch normalisation anew (from scratch), `frozen` keeps its statistics
            and scales and learns its shifts (from pretrained weights).
        pooling: how regions answer for the photo: `mean` averages their features (global average pooling),
            `log_sum_exp` asks whether a concept is seen somewhere (over the regions' logits, a smooth
            noisy-or as in Fang et al. 2015, eq. 1).
        learning_rate, head_learning_rate: the highest ones, of the encoder and of the classifier; one cycle.
        muon_learning_rate: that of the encoder's convolutions and matrices, if Muon is to teach them
            (`captionloop/training/muon.py`): an encoder without weights learns in fewer epochs so. None:
            AdamW teaches them as everything else.
        ema_decay: decay per step of the exponential moving average of the weights, which is what is kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(default=6, ge=0)
    input_size: int | None = Field(default=None, ge=32, le=1024)
    batch_size: int = Field(default=32, ge=2)
    frozen: str | None = None
    batch_norm: Literal["batch", "frozen"] = "batch"
    pooling: Literal["mean", "log_sum_exp"] = "mean"
    learning_rate: float = Field(default=1e-3, gt=0)
    head_learning_rate: float = Field(default=3e-3, gt=0)
    muon_learning_rate: float | None = Field(default=None, gt=0)
    warm_up: float = Field(default=0.2, ge=0, lt=1)
    weight_decay: float = Field(default=0.05, ge=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    augmentation: AugmentationParameters = AugmentationParameters()
    concepts: ConceptParameters = ConceptParameters()
    seed: int = 0


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


class TrainingParameters(BaseModel):
    """Parameters common to cross-entropy and self-critical training.

    Attributes:
        name: of the captioner that comes out.
        seed: of weights, data order, dropout and views; the order is a function of it and the epoch alone.
        batch_size: captions in a step.
        learning_rate: of AdamW, reached after `warmup` (a share of all steps), then falling along a cosine to
            `final_learning_rate` (a share of it).
        clip_norm: gradients are scaled down to this norm.
        ema_decay: of the exponential moving average of the weights that is validated and kept; 0: none.
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
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
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


class CrossEntropyParameters(TrainingParameters):
    """Cross-entropy training under teacher forcing.

    Attributes:
        objective: of a block of `models`.
        captions_per_photo: how many captions of a photo share a step, and so its features and keys. All
            captions are seen in every epoch, whatever this is.
        max_length: longer captions are cut, in tokens.
        label_smoothing: share of the target spread over all words (Szegedy et al. 2016).
        doubly_stochastic: weight of the attention regularisation of Xu et al. 2015, equation 14.
        decoding: what the captioner's bundle says about searching.
    """

    objective: Literal["cross_entropy"] = Field(default="cross_entropy", exclude=True)
    decoder: DecoderConfig
    vocabulary: VocabularyParameters = VocabularyParameters()
    captions_per_photo: int = Field(default=5, ge=1)
    max_length: int = Field(default=24, ge=1)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    doubly_stochastic: float = Field(default=1.0, ge=0)
    decoding: DecodingOptions = DecodingOptions()


class PretrainedParameters(TrainingParameters):
    """A pre-trained captioner, and how it is fine-tuned on the corpus.

    Attributes:
        captioner: the folder of the model, or `<hub id>@<revision>`.
        epochs: 0 leaves the model as it is: zero-shot.
        prompt: what it is asked, where it is asked anything; None: what models of its kind are asked.
        lora: what learns; None: the whole text side.
        dropout: of what enters the adaptation.
        tower: how its vision tower is taught first what the captions name; None: it stays as it is. A taught
            tower makes another base of the model, which the bundle holds then.
        tower_precision: of its vision tower.
        carries_base: whether the bundle holds the model's files; else it refers to them.
        label_smoothing: as in `CrossEntropyParameters`.
        decoding: how it searches. `max_length` is in its tokens.
    """

    name: str = "pretrained"
    captioner: str | None = None
    epochs: int = Field(default=0, ge=0)
    batch_size: int = Field(default=32, ge=1)
    prompt: str | None = None
    lora: LoraOptions | None = LoraOptions()
    dropout: float = Field(default=0.05, ge=0, lt=1)
    tower: AdaptationParameters | None = None
    tower_precision: Precision = "float32"
    carries_base: bool = False
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    decoding: DecodingOptions = DecodingOptions()

    def given(self) -> str:
        """Where the model is (ConfigurationError where that is not said)."""
        if self.captioner is None:
            raise ConfigurationError(
                "pretrained.captioner is not given: kedro run --env pretrained"
                " --params captioner=<folder of a model, or <hub id>@<revision>>"
            )
        return self.captioner

    def of_training(self, decoder: DecoderConfig) -> "CrossEntropyParameters":
        """The same for a captioner of this architecture."""
        own = {"captioner", "prompt", "lora", "dropout", "tower", "tower_precision", "carries_base"}
        return CrossEntropyParameters(
            **self.model_dump(exclude=own),
            decoder=with_dropout(decoder, self.dropout, None),
            max_length=self.decoding.max_length,
            doubly_stochastic=0.0,
        )


class SelfCriticalParameters(TrainingParameters):
    """Self-critical sequence training on CIDEr-D (Rennie et al. 2017).

    Attributes:
        objective: of a block of `models`.
        start_from: the model of `models` that it goes on from.
        batch_size: here, photos in a step.
        samples: captions drawn for each photo.
        baseline: what a sample must beat: the `greedy` caption (Rennie et al.), or the `mean` of the photo's
            other samples (Luo 2020, "A Better Variant of Self-Critical Sequence Training").
        temperature: of the samples.
        cross_entropy: weight of the teacher-forcing loss that is mixed in.
        decoding: what the captioner's bundle says about searching; None leaves it as it is.
    """

    objective: Literal["self_critical"] = Field(default="self_critical", exclude=True)
    start_from: str | None = Field(default=None, exclude=True)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=5e-5, gt=0)
    samples: int = Field(default=5, ge=1)
    baseline: Literal["greedy", "mean"] = "mean"
    temperature: float = Field(default=1.0, gt=0)
    cross_entropy: float = Field(default=0.0, ge=0)
    max_length: int = Field(default=24, ge=1)
    decoding: DecodingOptions | None = None


_Parameters = TypeVar("_Parameters", CrossEntropyParameters, SelfCriticalParameters)
_LONGEST = 200


def in_tokens(parameters: _Parameters, language: Language) -> _Parameters:
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
    """Captioners that caption together.

    Attributes:
        objective: of a block of `models`.
        name: of the captioner that they are together.
        members: models of `models`, the first of which says how to search and what neighbours are.
        seeds: where the members are a self-critical model and the one that it started from: for each seed, a
            sibling is trained by the same two recipes and joins them.
        decoding: how they search; None is how the first member does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    objective: Literal["ensemble"] = "ensemble"
    name: str = "ensemble"
    members: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    decoding: DecodingOptions | None = None

    @field_validator("seeds")
    @classmethod
    def _differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("two members of the same seed are the same member: give each its own")
        return seeds
