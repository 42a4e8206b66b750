"""What a bundle's `config.json` holds: decoder, decoding, calibration. Readable without importing torch."""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

AttentionKind = Literal["additive", "dot"]


class ShowAndTellConfig(BaseModel):
    """Sizes of a Show and Tell decoder; 512 and 512 in the paper."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["show_and_tell"] = "show_and_tell"
    embedding: int = Field(default=512, gt=0)
    hidden: int = Field(default=512, gt=0)
    layers: int = Field(default=1, gt=0)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    feature_dropout: float = Field(default=0.0, ge=0, lt=1)
    tied: bool = False


class ShowAttendTellConfig(BaseModel):
    """Sizes of a soft-attention decoder.

    `feature_size` puts a learnt projection between grid and decoder (None, as in the paper: the grid itself);
    `feature_dropout` drops channels of an image, the same at all its regions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["show_attend_tell"] = "show_attend_tell"
    embedding: int = Field(default=512, gt=0)
    hidden: int = Field(default=512, gt=0)
    attention_size: int = Field(default=512, gt=0)
    attention: AttentionKind = "additive"
    feature_size: int | None = Field(default=None, gt=0)
    dropout: float = Field(default=0.5, ge=0, lt=1)
    feature_dropout: float = Field(default=0.0, ge=0, lt=1)
    tied: bool = False


class TransformerConfig(BaseModel):
    """Sizes of a Transformer decoder; `width` is divided among `heads`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["transformer"] = "transformer"
    width: int = Field(default=384, gt=0)
    layers: int = Field(default=3, gt=0)
    heads: int = Field(default=6, gt=0)
    feedforward: int = Field(default=1536, gt=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    feature_dropout: float = Field(default=0.0, ge=0, lt=1)
    tied: bool = True

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "TransformerConfig":
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} cannot be divided among {self.heads} heads of even size")
        return self


class BaseReference(BaseModel):
    """A pre-trained model that a bundle refers to instead of holding it.

    Attributes:
        source: the folder it was read from, or `<hub id>@<revision>`.
        files: SHA-256 of every file of it that is read, by its name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    files: dict[str, str]

    @property
    def digest(self) -> str:
        """One hash of all its files, wherever they lie."""
        return hashlib.sha256(json.dumps(self.files, sort_keys=True).encode()).hexdigest()


class LoraOptions(BaseModel):
    """Low-rank adaptation (Hu et al. 2021): what of a pre-trained text side learns.

    Attributes:
        rank, alpha: of the product that is added to a matrix; it counts `alpha / rank`.
        targets: names of linear layers; those that the model has are adapted.
        seed: of the fresh matrices. Their product is zero, so that nothing changes before training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    targets: tuple[str, ...] = Field(
        default=("query", "value", "q_proj", "v_proj", "c_attn", "q_attn"), min_length=1
    )
    seed: int = 0


class PretrainedConfig(BaseModel):
    """The text side of a pre-trained image-text model.

    Attributes:
        base: the model.
        prompt: what it is asked, for models that are asked something; a chat model gets it in its template.
        lora: what learns; None: all weights of the text side.
        dropout: of the adaptation's input; the base's own dropout is as its configuration says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["pretrained"] = "pretrained"
    base: BaseReference
    prompt: str | None = None
    lora: LoraOptions | None = LoraOptions()
    dropout: float = Field(default=0.0, ge=0, lt=1)
    feature_dropout: float = Field(default=0.0, ge=0, lt=1)


SingleConfig = Annotated[
    ShowAndTellConfig | ShowAttendTellConfig | TransformerConfig | PretrainedConfig,
    Field(discriminator="kind"),
]


class EnsembleConfig(BaseModel):
    """Which decoders an ensemble is made of; they share vocabulary and grid, and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["ensemble"] = "ensemble"
    members: tuple[SingleConfig, ...] = Field(min_length=2)


DecoderConfig = Annotated[SingleConfig | EnsembleConfig, Field(discriminator="kind")]


def with_dropout(
    config: DecoderConfig, dropout: float | None, feature_dropout: float | None
) -> DecoderConfig:
    """The same architecture with other dropout rates in training; None leaves one as it is."""
    if isinstance(config, EnsembleConfig):
        members = tuple(with_dropout(member, dropout, feature_dropout) for member in config.members)
        return config.model_copy(update={"members": members})
    rates = {"dropout": dropout, "feature_dropout": feature_dropout}
    return config.model_copy(update={name: rate for name, rate in rates.items() if rate is not None})


class ConsensusOptions(BaseModel):
    """How captions are re-ranked by the captions of similar training photos (`consensus.py`).

    Attributes:
        neighbours: training photos that are asked.
        nearness: a neighbour counts e times less when its cosine is lower by this.
        likelihood: how much the score of the search counts beside the consensus.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    neighbours: int = Field(default=30, ge=1, le=1000)
    nearness: float = Field(default=0.1, gt=0)
    likelihood: float = Field(default=0.05, ge=0)


class DecodingOptions(BaseModel):
    """Part of a bundle's `config.json`; whoever captions may override it.

    Attributes:
        method: `beam` (of width 1: greedy) or `sample`.
        beam_width: hypotheses kept about each image.
        alternatives: captions returned for each image, best first; at most `beam_width` when searching.
        min_length, max_length: in tokens, the end token not counted. (Configurations of a training say
            `max_length` and `no_repeat_ngram` in words, also where text is cut into characters.)
        length_penalty: a hypothesis is worth log P / (tokens + 1) ** length_penalty (Wu et al. 2016, without
            the constant); 0 prefers the likeliest caption, 1 the likeliest word on average.
        no_repeat_ngram: no n-gram of this many tokens occurs twice in a caption; 0 allows all.
        temperature, top_k, top_p: of sampling (Holtzman et al. 2020 for `top_p`); `top_k` 0 and `top_p` 1
            cut nothing.
        seed: of sampling.
        consensus: ranks all `beam_width` captions that a beam search finds; None ranks by likelihood.
        precision: of the decoder's matrix products; `auto` is bfloat16 where the hardware multiplies it fast
            (on a GPU only for more than a handful of images at once), else float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Literal["beam", "sample"] = "beam"
    beam_width: int = Field(default=5, ge=1, le=100)
    alternatives: int = Field(default=3, ge=1, le=100)
    min_length: int = Field(default=1, ge=1)
    max_length: int = Field(default=24, ge=1, le=200)
    length_penalty: float = Field(default=0.7, ge=0)
    no_repeat_ngram: int = Field(default=0, ge=0)
    temperature: float = Field(default=1.0, gt=0)
    top_k: int = Field(default=0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = 0
    consensus: ConsensusOptions | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _lengths_in_order(self) -> "DecodingOptions":
        if self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} is above max_length {self.max_length}")
        return self


Points = tuple[float, ...]


def sureness(words: Sequence[float]) -> float:
    """How sure a caption is by the confidences of its words, 0 to 1: as sure as of all of them at once.

    It orders captions; a `Calibration` maps it to how often people accept such captions.
    """
    return float(np.prod(words)) if words else 0.0


def mean_confidence(words: Sequence[float]) -> float:
    """The geometric mean of the confidences of a caption's words, 0 to 1."""
    return float(np.exp(np.mean(np.log(np.maximum(words, 1e-12))))) if words else 0.0


class Calibration(BaseModel):
    """Rising curves, linear between points, from a decoder's probabilities to how often it is right.

    Attributes:
        probability, confidence: from the probability of a word to how often such words are right.
        sureness, accepted: from the sureness of a caption to how often a person would accept such captions;
            empty where that was never asked, as in bundles before format 4.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    probability: Points
    confidence: Points
    sureness: Points = ()
    accepted: Points = ()

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not self.probability:
            raise ValueError("a calibration needs as many confidences as probabilities, and at least one")
        for given, meant in ((self.probability, self.confidence), (self.sureness, self.accepted)):
            if len(given) != len(meant):
                raise ValueError("a calibration needs as many confidences as probabilities, and at least one")
            if sorted(given) != list(given) or sorted(meant) != list(meant):
                raise ValueError("the points of a calibration must rise")
        return self

    @property
    def calibrates_captions(self) -> bool:
        """Whether it has a curve for whole captions."""
        return bool(self.sureness)

    def __call__(self, probability: float) -> float:
        """The confidence in a word of this probability."""
        return float(np.interp(probability, self.probability, self.confidence))

    def of_caption(self, words: Sequence[float]) -> float:
        """The confidence in a caption by those in its words; their mean where nothing more is known."""
        if not self.calibrates_captions:
            return mean_confidence(words)
        return float(np.interp(sureness(words), self.sureness, self.accepted))
