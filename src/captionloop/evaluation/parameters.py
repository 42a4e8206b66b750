"""What can be set about an evaluation: `conf/*/parameters_evaluation.yml`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from captionloop.scoring.bootstrap import RESAMPLES


class PublishedRow(BaseModel):
    """A row of somebody else's results, x100 as papers print them; a metric that was not reported is left
    out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    split: str = "test"
    values: dict[str, float]


class CalibrationParameters(BaseModel):
    """How word confidences are calibrated. Always on `split`, so that a test split stays untouched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str = "val"
    method: Literal["isotonic", "temperature"] = "isotonic"
    bins: int = Field(default=10, ge=2, description="of the expected calibration error, equally wide")
    folds: int = Field(default=5, ge=2, description="for the error after calibration, by photo")
    acceptable: float = Field(
        default=1.05,
        gt=0,
        description="a caption counts as accepted by a person if people said so much of it, too, as a"
        " multiple of the mean of their own captions",
    )
    least_ratings: int = Field(
        default=100, ge=1, description="rated captions from which on ratings have a say in confidences"
    )


class LatencyParameters(BaseModel):
    """How much is captioned to measure speed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    photos: int = Field(default=20, ge=1, description="captioned one by one, bytes to caption")
    batch: int = Field(default=32, ge=1)
    batches: int = Field(
        default=4, ge=1, description="captioned from features and from bytes, for throughput"
    )


class GalleryParameters(BaseModel):
    """Which photos are shown: this many of the best, the middle and the worst by CIDEr."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    each: int = Field(default=2, ge=1)
    widest: int = Field(default=12, ge=4, description="words in a row; a longer caption is cut")


class EvaluationParameters(BaseModel):
    """All of `params:evaluation`.

    Attributes:
        corpus: its name, for people.
        split: which photos: `auto` is `test` where there is one, else `val`; or the name of any split.
        batch_size: images decoded together.
        seed, resamples: of the bootstrap.
        reference_points, published: rows set beside ours in the table; values x100.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus: str = "corpus"
    split: str = "auto"
    batch_size: int = Field(default=64, ge=1, json_schema_extra={"affects_result": False})
    seed: int = 0
    resamples: int = Field(default=RESAMPLES, ge=1)
    calibration: CalibrationParameters = CalibrationParameters()
    latency: LatencyParameters = LatencyParameters()
    gallery: GalleryParameters = GalleryParameters()
    reference_points: tuple[PublishedRow, ...] = ()
    published: tuple[PublishedRow, ...] = ()
