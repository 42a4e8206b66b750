"""What gateway and model server say to each other. It never leaves the machine (or the cluster's inside)."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict


class _Message(BaseModel):
    model_config = ConfigDict(
        frozen=True, protected_namespaces=(), ser_json_bytes="base64", val_json_bytes="base64"
    )


class PreparedImage(_Message):
    """A photo made ready: uint8 `[size, size, 3]`, row by row."""

    size: int
    pixels: bytes


class SpokenWord(_Message):
    """One word: its confidence, and where the model looked, `[rows][columns]`, if it looks."""

    text: str
    confidence: float
    attention: list[list[float]] | None = None


class OtherCaption(_Message):
    """A caption that lost to the best one."""

    caption: str
    confidence: float


class Outcome(_Message):
    """What became of one image: a caption, or the reason why there is none. It always says by which model.

    `embedding` is the image in 32 numbers, by which drift is noticed. `familiarity` and `familiar` are of
    `vision/familiarity.py`, None where the model does not know what it learnt from.
    """

    model_name: str
    model_version: str
    caption: str | None = None
    confidence: float = 0.0
    words: list[SpokenWord] = []
    alternatives: list[OtherCaption] = []
    embedding: list[float] | None = None
    familiarity: float | None = None
    familiar: bool | None = None
    error: str | None = None


class ModelDescription(_Message):
    """The model that is served right now, or why there is none.

    `notice` says what is not as it should be though one is served.
    """

    ready: bool
    reason: str = ""
    notice: str = ""
    name: str = ""
    version: str = ""
    previous_version: str | None = None
    loaded_at: datetime | None = None
    input_size: int = 0
    decoding: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    lineage: dict[str, Any] = {}
    card: str = ""
