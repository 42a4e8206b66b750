"""A model that needs no weights, and photos that need no camera."""

import io

from PIL import Image

from captionloop.serving.schemas import (
    CaptionResult,
    ModelDescription,
    OtherCaption,
    PreparedImage,
    WordResult,
)

SIZE = 32


class FakeModel:
    """Says the same of every image, and remembers what it was shown."""

    def __init__(self) -> None:
        self.seen: list[PreparedImage] = []
        self.ready = True
        self.failure: Exception | None = None
        self.version = "1"
        self.metrics: dict = {"CIDEr": 0.5}
        self.familiarity: tuple[float, bool] | None = (0.4375, True)
        self.server = "a1"
        self.counts: tuple[int, int] | None = None
        self.refused: str | None = None
        self.language: str | None = "en"

    async def caption(self, image: PreparedImage) -> CaptionResult:
        self.seen.append(image)
        if self.failure is not None:
            raise self.failure
        share, familiar = self.familiarity or (None, None)
        return CaptionResult(
            familiarity=share, familiar=familiar,
            model_name="captioner", model_version=self.version, caption="a red square", confidence=0.5,
            words=[WordResult(text=word, confidence=0.5, attention=[[0.25, 0.25], [0.25, 0.25]])
                   for word in ("a", "red", "square")],
            alternatives=[OtherCaption(caption="a square", confidence=0.25)],
        )  # fmt: skip

    async def describe(self) -> ModelDescription:
        return ModelDescription(
            ready=self.ready, reason="" if self.ready else "no model is registered yet", name="captioner",
            version=self.version, input_size=SIZE, metrics=self.metrics, card="# A card",
            language=self.language,
            server=self.server, captioned=len(self.seen) if self.counts is None else self.counts[0],
            failed=0 if self.counts is None else self.counts[1], refused_version=self.refused,
        )  # fmt: skip


def png(size: tuple[int, int] = (40, 30), mode: str = "RGB", **save) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, 1 if mode == "1" else None or 0).save(buffer, save.pop("format", "PNG"), **save)
    return buffer.getvalue()


PHOTO = png()
