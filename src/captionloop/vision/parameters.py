"""What a configuration says about encoders: which one, and how it is taught."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from captionloop.vision.arithmetic import Precision
from captionloop.vision.concepts import ConceptParameters
from captionloop.vision.encoder import EncoderSpec


class EncoderParameters(BaseModel):
    """Which encoder; the fields of `EncoderSpec`, and the seed of its weights where none are given.

    `precision: auto` is what this machine is fastest in: bfloat16 where it has instructions for it. bfloat16
    becomes float32 where the machine cannot compute in it: what is written down is what is computed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    architecture: str
    input_size: int = 224
    layer: str | None = None
    precision: Precision | Literal["auto"] = "auto"
    seed: int = 0

    def spec(self) -> EncoderSpec:
        """The specification, for this machine: its precision is one that the machine computes in.

        Raises:
            EncoderError: the architecture is unknown.
        """
        from captionloop.vision.runtimes import native_precision, usable_precision

        precision = native_precision() if self.precision == "auto" else usable_precision(self.precision)
        return EncoderSpec(
            architecture=self.architecture, input_size=self.input_size, layer=self.layer, precision=precision
        )


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
    """How an encoder is taught visual concepts.

    Attributes:
        epochs: 0 leaves the encoder as it is.
        input_size: side of the square it is taught at, px; None is the encoder's own. Parts of photos,
            cropped and enlarged, show things larger than whole photos do, so an encoder does best at a size
            larger than the one it was taught at (Touvron et al. 2019, arXiv 1906.06423).
        frozen: the last layer that keeps its weights, by torchvision's name; None teaches all layers.
        norms: `batch` estimates batch normalisation anew (from scratch), `fixed` keeps its statistics and
            scales and learns its shifts (from pretrained weights).
        pooling: how regions answer for the photo: `mean` averages their features (global average pooling),
            `some` asks whether a concept is seen somewhere (log-sum-exp over the regions' logits, a smooth
            noisy-or as in Fang et al. 2015, eq. 1).
        learning_rate, head_learning_rate: the highest ones, of the encoder and of the classifier; one cycle.
        averaging: decay per step of the exponential moving average of the weights, which is what is kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(default=6, ge=0)
    input_size: int | None = Field(default=None, ge=32, le=1024)
    batch_size: int = Field(default=32, ge=2)
    frozen: str | None = None
    norms: Literal["batch", "fixed"] = "batch"
    pooling: Literal["mean", "some"] = "mean"
    learning_rate: float = Field(default=1e-3, gt=0)
    head_learning_rate: float = Field(default=3e-3, gt=0)
    warm_up: float = Field(default=0.2, ge=0, lt=1)
    weight_decay: float = Field(default=0.05, ge=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    averaging: float = Field(default=0.99, ge=0, lt=1)
    augmentation: AugmentationParameters = AugmentationParameters()
    concepts: ConceptParameters = ConceptParameters()
    seed: int = 0
