"""Every body on a wire as a pydantic model: the REST API's, and those between gateway and model server."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat

from captionloop.ratings.rating_tables import COMMENT_LENGTH, CORRECTION_LENGTH, clean_line, clean_prose

CaptionId = Annotated[str, Field(description="Names one served caption", examples=["kq3V0cYJmS0xw9ZyqkQJZw"])]


class _Body(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class _Request(_Body):
    model_config = ConfigDict(extra="forbid")


def _cleaned_line(text: str | None) -> str | None:
    return None if text is None else clean_line(text)


def _cleaned_prose(text: str | None) -> str | None:
    return None if text is None else clean_prose(text)


Correction = Annotated[str | None, Field(max_length=CORRECTION_LENGTH), AfterValidator(_cleaned_line)]
Comment = Annotated[str | None, Field(max_length=COMMENT_LENGTH), AfterValidator(_cleaned_prose)]

CaptionLanguage = Annotated[str | None, Field(description="ISO 639 code; null: not known", examples=["en"])]


class WordBody(_Body):
    """One word of the caption."""

    text: str
    confidence: float = Field(ge=0, le=1)
    attention: list[list[float]] | None = Field(
        description="Rows x columns over the whole upright photo; null where the model does not attend"
    )


class AlternativeBody(_Body):
    """A caption that the model held for less likely."""

    caption: str
    confidence: float = Field(ge=0, le=1)


class ModelRef(_Body):
    """Which model made the caption."""

    name: str
    version: str


class ImageSize(_Body):
    """The photo's size as it is seen upright, in pixels."""

    width: int
    height: int


class CaptionedPhoto(_Body):
    """What the model says of a photo, and what stands behind it."""

    caption: str
    language: CaptionLanguage = None
    confidence: float = Field(
        ge=0,
        le=1,
        description="How often a person would accept captions like this one (of models from before that was "
        "measured: the geometric mean of the words'). Where `familiar` is false it tells nothing: it was "
        "measured on photos like those that the model learnt from",
    )
    familiarity: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of the model's validation photos that look at least as unlike what it learnt from "
        "as this photo does: about evenly spread over 0 to 1 for photos like them, 0 for one that is farther "
        "off than any. null where the model does not know what it learnt from",
    )
    familiar: bool | None = Field(
        None,
        description="false: the photo is unlike anything the model learnt from, farther off than 99 % of its "
        "validation photos; do not rely on the caption. null as `familiarity`",
    )
    words: list[WordBody]
    alternatives: list[AlternativeBody]
    model: ModelRef
    image: ImageSize
    created_at: datetime


class UnkeptCaption(CaptionedPhoto):
    """A caption of which nothing is kept: it has no id, so it can neither be read back nor rated."""

    kept: Literal[False] = False


class CaptionBody(CaptionedPhoto):
    """A caption that is kept, with its photo, until it is erased or its time has come."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "caption_id": "kq3V0cYJmS0xw9ZyqkQJZw",
                    "caption": "a brown dog runs",
                    "language": "en",
                    "confidence": 0.71,
                    "familiarity": 0.43,
                    "familiar": True,
                    "words": [{"text": "a", "confidence": 0.98, "attention": [[0.1, 0.2], [0.3, 0.4]]}],
                    "alternatives": [{"caption": "a dog running", "confidence": 0.55}],
                    "model": {"name": "captioner", "version": "3"},
                    "image": {"width": 640, "height": 427},
                    "created_at": "2026-11-22T09:31:07.120Z",
                    "kept": True,
                    "shared": False,
                }
            ]
        }
    )

    caption_id: CaptionId
    kept: Literal[True] = True
    shared: bool = Field(False, description="Others may be shown the photo, to rate its caption")


class CaptionToRate(_Body):
    """A caption of somebody else's photo that the caller may see and rate."""

    caption_id: CaptionId
    caption: str
    language: CaptionLanguage = None
    image: ImageSize
    photo: str = Field(description="Path of the photo; only the caller may read it")


class ErasureUnderWay(_Body):
    """Caption and ratings are gone; where something of them remains for the moment."""

    remaining: list[Literal["photo archive"]]


class RatingRequest(_Request):
    """What somebody thinks of a caption."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"stars": 4, "correction": "a brown dog leaps through deep snow", "comment": "so close"}
            ]
        }
    )

    stars: int = Field(ge=1, le=5, strict=True)
    correction: Correction = None
    comment: Comment = None


class RatingBody(_Body):
    """A rating that is stored."""

    caption_id: CaptionId
    stars: int = Field(ge=1, le=5)
    correction: str | None
    comment: str | None
    created_at: datetime
    updated_at: datetime


class CaptionWithRating(CaptionBody):
    """A caption read back, with the caller's own rating."""

    rating: RatingBody | None


class CaptionsPage(_Body):
    """Some of the caller's own captions, the newest first."""

    captions: list[CaptionWithRating]
    next: str | None = Field(description="`before` of the page that follows; null on the last one")


class Base64Photo(_Request):
    """A photo inside JSON: base64, or a `data:` URL; whether it may be kept, and shown to others."""

    image: str
    keep: bool = Field(True, strict=True)
    share: bool = Field(False, strict=True)


class IntervalBody(_Body):
    """A measured value and its 95 % interval."""

    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat


class KeepingBody(_Body):
    """Whether photos and captions are kept at all, and for how long."""

    keep: bool
    unrated_days: int = Field(description="Of captions that nobody rated, with their photos")
    rated_days: int = Field(description="Of those that somebody rated")


class TrialBody(_Body):
    """The version that is tried beside the champion on one model server (`registry/trials.py`)."""

    role: Literal["shadow", "canary"]
    version: str
    share: float = Field(description="Of the photos (shadow), or of the people (canary)")
    ready: bool = False
    reason: str = Field("", description="Why it is not ready")
    input_size: int = 0
    preprocessing: dict[str, Any] = Field(
        {}, description="What it sees of a photo; empty: all of it, squashed"
    )
    captioned: int = Field(0, description="Photos that it captioned there since it was loaded")
    failed: int = Field(0, description="Photos that it did not caption")
    dropped: int = Field(0, description="Photos that a shadow left out while the champion was busy")
    agreed: int = Field(0, description="Photos of which a shadow said the same as the champion")


class ModelServerBody(_Body):
    """One of the model servers that this gateway has heard of within the last minute."""

    server: str = Field(description="Its name, new whenever it starts")
    version: str
    seconds_ago: float = Field(description="Since it said so")
    captioned: int = Field(description="Photos that this version captioned there since it took over")
    failed: int = Field(description="Photos that it could not caption there")
    refused_version: str | None = Field(None, description="A version that it should serve and cannot load")
    trial: TrialBody | None = Field(None, description="The version that is tried there beside the champion")


class ModelBody(_Body):
    """The model that is served."""

    name: str
    version: str
    previous_version: str | None
    loaded_at: datetime | None
    language: CaptionLanguage = None
    input_size: int
    decoding: dict[str, Any]
    metrics: dict[str, IntervalBody | float] = Field(description="What was measured, as fractions")
    lineage: dict[str, Any]
    card: str = Field(description="Markdown")
    keeping: KeepingBody | None = Field(None, description="What becomes of photos that are sent")
    notice: str = Field("", description="What is not as it should be: the registry is away, say")
    servers: list[ModelServerBody] | None = Field(
        None, description="Which version each model server serves, as far as this gateway has heard"
    )


class DayBody(_Body):
    """One day in UTC."""

    date: date
    captions: int
    ratings: int
    corrections: int
    mean_stars: float | None


class TallyBody(_Body):
    """Captions and ratings of the period."""

    captions: int
    ratings: int
    corrections: int
    mean_stars: float | None
    mean_confidence: float | None
    stars: dict[str, int]


class VersionBody(TallyBody):
    """The same of one model version."""

    version: str


class StatisticsBody(_Body):
    """Ratings over time and by model version."""

    days: int
    first: date = Field(serialization_alias="from", validation_alias="from")
    last: date = Field(serialization_alias="to", validation_alias="to")
    totals: TallyBody
    by_day: list[DayBody]
    by_version: list[VersionBody]


class FieldErrorBody(_Body):
    """What is wrong with one field."""

    field: str
    message: str


class ProblemBody(_Body):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[FieldErrorBody] | None = None


class _Message(BaseModel):
    model_config = ConfigDict(
        frozen=True, protected_namespaces=(), ser_json_bytes="base64", val_json_bytes="base64"
    )


class PreparedImage(_Message):
    """A photo made ready: uint8 `[size, size, 3]`, row by row; the version that alone may caption it, or the
    one that should, where it is there.
    """

    size: int
    pixels: bytes
    version: str = ""
    preferred: str = ""


class WordResult(_Message):
    """One word: its confidence, and where the model looked, `[rows][columns]`, if it looks."""

    text: str
    confidence: float
    attention: list[list[float]] | None = None


class OtherCaption(_Message):
    """A caption that lost to the best one."""

    caption: str
    confidence: float


class CaptionResult(_Message):
    """What became of one image: a caption, or the reason why there is none. It always says by which model,
    and which server.

    `embedding` is the image in 32 numbers, by which drift is noticed. `familiarity` and `familiar` are of
    `vision/embedding.py`, None where the model does not know what it learnt from.
    """

    model_name: str
    model_version: str
    caption: str | None = None
    confidence: float = 0.0
    words: list[WordResult] = []
    alternatives: list[OtherCaption] = []
    embedding: list[float] | None = None
    familiarity: float | None = None
    familiar: bool | None = None
    error: str | None = None
    server: str = ""
    tried: bool = False  # by the version that is tried beside the champion


class ModelDescription(_Message):
    """The model that is served right now, or why there is none.

    `notice` says what is not as it should be though one is served; `captioned` and `failed` count the photos
    of this version on this server; `refused_version` is one that should be served and cannot be loaded.
    """

    ready: bool
    reason: str = ""
    notice: str = ""
    name: str = ""
    version: str = ""
    previous_version: str | None = None
    loaded_at: datetime | None = None
    language: str | None = None
    input_size: int = 0
    preprocessing: dict[str, Any] = {}  # of `captionloop.preprocessing`
    decoding: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    lineage: dict[str, Any] = {}
    card: str = ""
    server: str = ""
    captioned: int = 0
    failed: int = 0
    refused_version: str | None = None
    trial: TrialBody | None = None
