"""What decoders there are and how large: their configurations, readable without importing torch."""

from typing import Annotated, Literal

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


SingleConfig = Annotated[
    ShowAndTellConfig | ShowAttendTellConfig | TransformerConfig, Field(discriminator="kind")
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
    """The same architecture with other shares dropped while it is taught; None leaves one as it is."""
    if isinstance(config, EnsembleConfig):
        members = tuple(with_dropout(member, dropout, feature_dropout) for member in config.members)
        return config.model_copy(update={"members": members})
    shares = {"dropout": dropout, "feature_dropout": feature_dropout}
    return config.model_copy(update={name: share for name, share in shares.items() if share is not None})
