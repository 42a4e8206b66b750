"""What a photo got, from a model here or from the service, in the one form that the command line prints."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionloop.errors import CaptionloopError, ConfigurationError, ImageError, without_passwords

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Captioned, Captioner

Grid = list[list[float]]


@dataclass(frozen=True)
class AnsweredWord:
    """A word, how sure the model is of it (0 to 1), and where it looked (rows x columns), if it attends."""

    text: str
    confidence: float
    attention: Grid | None


@dataclass(frozen=True)
class Answer:
    """The caption of one photo. `alternatives`: what else was found, best first, as (caption, confidence).

    `familiarity` and `familiar` are of `vision/familiarity.py`, None where the model does not know.
    """

    image: str
    caption: str
    confidence: float
    words: tuple[AnsweredWord, ...]
    alternatives: tuple[tuple[str, float], ...]
    model: str
    caption_id: str | None = None
    familiarity: float | None = None
    familiar: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it; the same names as in the REST API."""
        document = asdict(self)
        document["alternatives"] = [
            {"caption": caption, "confidence": confidence} for caption, confidence in self.alternatives
        ]
        return document


@dataclass(frozen=True)
class Failure:
    """A photo that could not be captioned, and why."""

    image: str
    error: str

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)


def ask_model(
    captioner: "Captioner", model: str, paths: Sequence[Path], beam_width: int | None
) -> Iterator[Answer | Failure]:
    """Captions photos with a model of ours; one that cannot be read does not stop the others."""
    decoding = captioner.decoding
    if beam_width is not None:
        alternatives = min(decoding.alternatives, beam_width)
        decoding = decoding.model_copy(update={"beam_width": beam_width, "alternatives": alternatives})
    for path in paths:
        try:
            captioned = captioner.caption([read_photo(path)], decoding)[0]
        except ImageError as error:
            yield Failure(str(path), str(error))
        else:
            yield _answer(path, captioned, model)


def ask_service(url: str, key: str | None, paths: Sequence[Path]) -> Iterator[Answer | Failure]:
    """Captions photos through the REST API; a photo that it refuses does not stop the others.

    Raises:
        ConfigurationError: nobody answers at `url`, or it is not our service.
    """
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=60) as client:
            for path in paths:
                try:
                    files = {"image": (path.name, read_photo(path))}
                    yield _service_answer(path, client.post("/v1/captions", files=files))
                except ImageError as error:
                    yield Failure(str(path), str(error))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConfigurationError(
            f"No captioning service answers at {without_passwords(url)} ({error}): check --url"
        ) from error


def read_photo(path: Path) -> bytes:
    """The bytes of a photo. Raises `ImageError` where there are none."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"it cannot be read ({error.strerror}): check the path") from error


def _answer(path: Path, captioned: "Captioned", model: str) -> Answer:
    best, likeness = captioned.best, captioned.likeness
    words = tuple(
        AnsweredWord(
            text=word.text,
            confidence=round(word.confidence, 4),
            attention=None if word.attention is None else word.attention.astype(float).round(4).tolist(),
        )
        for word in best.words
    )
    return Answer(
        image=str(path),
        caption=best.text,
        confidence=round(best.confidence, 4),
        words=words,
        alternatives=tuple((other.text, round(other.confidence, 4)) for other in captioned.alternatives[1:]),
        model=model,
        familiarity=None if likeness is None else round(likeness.share, 4),
        familiar=None if likeness is None else likeness.familiar,
    )


def _service_answer(path: Path, response: Any) -> Answer | Failure:
    try:
        document = response.json()
        if response.is_error:
            return Failure(str(path), document["detail"])
        return Answer(
            image=str(path),
            caption=document["caption"],
            confidence=document["confidence"],
            words=tuple(
                AnsweredWord(word["text"], word["confidence"], word["attention"])
                for word in document["words"]
            ),
            alternatives=tuple((other["caption"], other["confidence"]) for other in document["alternatives"]),
            model=document["model"]["version"],
            caption_id=document["caption_id"],
            familiarity=document.get("familiarity"),
            familiar=document.get("familiar"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CaptionloopError(
            f"{without_passwords(str(response.url))} answered {response.status_code}, "
            "but not as a captioning service: check --url"
        ) from error
