"""`captionloop caption`: photos in, captions out, with a model here or through the service; `--attention`
draws.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from captionloop.commands.model_lookup import bundle_folder
from captionloop.commands.option_types import WrittenPath
from captionloop.config import project_folder
from captionloop.errors import CaptionloopError, ConfigurationError, ImageError, without_passwords

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from captionloop.captioner.captioner import Captioned, Captioner

Grid = list[list[float]]


@dataclass(frozen=True)
class CaptionWord:
    """A word, its confidence (0 to 1), and its attention (rows x columns), if the model attends."""

    text: str
    confidence: float
    attention: Grid | None


@dataclass(frozen=True)
class PhotoCaption:
    """The caption of one photo. `alternatives`: what else was found, best first, as (caption, confidence).

    `familiarity` and `familiar` are of `vision/embedding.py`, None where the model does not know.
    """

    image: str
    caption: str
    confidence: float
    words: tuple[CaptionWord, ...]
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


def caption_with_model(
    captioner: "Captioner", model: str, paths: Sequence[Path], beam_width: int | None
) -> Iterator[PhotoCaption | Failure]:
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
            yield _from_captioned(path, captioned, model)


def caption_with_service(
    url: str, key: str | None, paths: Sequence[Path]
) -> Iterator[PhotoCaption | Failure]:
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
                    yield _from_response(path, client.post("/v1/captions", files=files))
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


def _from_captioned(path: Path, captioned: "Captioned", model: str) -> PhotoCaption:
    best, familiarity = captioned.best, captioned.familiarity
    words = tuple(
        CaptionWord(
            text=word.text,
            confidence=round(word.confidence, 4),
            attention=None if word.attention is None else word.attention.astype(float).round(4).tolist(),
        )
        for word in best.words
    )
    return PhotoCaption(
        image=str(path),
        caption=best.text,
        confidence=round(best.confidence, 4),
        words=words,
        alternatives=tuple((other.text, round(other.confidence, 4)) for other in captioned.alternatives[1:]),
        model=model,
        familiarity=None if familiarity is None else round(familiarity.share, 4),
        familiar=None if familiarity is None else familiarity.familiar,
    )


def _from_response(path: Path, response: Any) -> PhotoCaption | Failure:
    try:
        document = response.json()
        if response.is_error:
            return Failure(str(path), document["detail"])
        return PhotoCaption(
            image=str(path),
            caption=document["caption"],
            confidence=document["confidence"],
            words=tuple(
                CaptionWord(word["text"], word["confidence"], word["attention"]) for word in document["words"]
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


_COLUMNS = 6
_INCHES = 2.0


def attention_figure(photo: bytes, result: PhotoCaption) -> "Figure":
    """The photo, and once more for every word of its caption.

    Raises `ConfigurationError` where the model does not attend: there is nothing to draw then.
    """
    from captionloop.evaluation.figures import INK, MUTED, figure
    from captionloop.images import load_square

    if all(word.attention is None for word in result.words):
        raise ConfigurationError(
            f"Model {result.model} has no attention to draw: choose one that attends (show_attend_tell)"
        )
    picture = load_square(photo, 256)
    count = 1 + len(result.words)
    rows, columns = ceil(count / _COLUMNS), min(count, _COLUMNS)
    fig = figure(_INCHES * columns, (_INCHES + 0.35) * rows + 0.4)
    fig.suptitle(result.caption, x=0.01, ha="left", color=INK, fontsize=12, fontweight="bold")
    panels: Sequence[Axes] = list(fig.subplots(rows, columns, squeeze=False).flat)
    for panel in panels:
        panel.set_axis_off()
    panels[0].imshow(picture)
    panels[0].set_title(f"confidence {100 * result.confidence:.0f} %", color=MUTED, fontsize=9)
    for panel, word in zip(panels[1:], result.words, strict=False):
        panel.imshow(_highlighted(picture, word))
        panel.set_title(f"{word.text}  {100 * word.confidence:.0f} %", color=INK, fontsize=10)
    return fig


def _highlighted(picture: "NDArray[np.uint8]", word: CaptionWord) -> "NDArray[np.uint8]":
    if word.attention is None:
        return picture
    from captionloop.evaluation.gallery import highlight_attention

    return highlight_attention(picture, np.asarray(word.attention, np.float32))


@click.command()
@click.argument("images", nargs=-1, required=True, type=WrittenPath(path_type=Path), metavar="IMAGE...")
@click.option(
    "--model",
    help="A bundle's folder, or a version or alias of the registry. [default: champion, else newest bundle]",
)
@click.option("--env", help="Kedro environment whose model --model means.")
@click.option(
    "--beam-width",
    type=click.IntRange(1, 100),
    help="Hypotheses to keep; 1 is greedy. [default: the model's]",
)
@click.option(
    "--attention",
    type=WrittenPath(path_type=Path, dir_okay=False),
    help="Draw where the model looked for each word, into this PNG, PDF or SVG (one image).",
)
@click.option("--url", help="Ask the service at this address instead of loading a model here.")
@click.option("--key", envvar="CAPTIONLOOP_KEY", help="API key for --url. [env: CAPTIONLOOP_KEY]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object an image, in a list.")
def caption(  # noqa: PLR0917
    images: tuple[Path, ...],
    model: str | None,
    env: str | None,
    beam_width: int | None,
    attention: Path | None,
    url: str | None,
    key: str | None,
    as_json: bool,
) -> None:
    """Caption photos.

    The caption of one photo is printed alone; of several, each after its file's name. On the error output a
    photo is named that is unlike anything the model learnt from, and one that cannot be read; the others are
    captioned all the same, and the exit code is 1.
    """
    if attention is not None and len(images) > 1:
        raise ConfigurationError("--attention draws one image: give one, or leave the option out")
    for option, given in (("--url", url), ("--model", model)):
        if given is not None and not given.strip():
            raise ConfigurationError(f"{option} is empty: name what is meant, or leave it out")
    if url is not None and (model is not None or beam_width is not None):
        raise ConfigurationError("--url asks the service's own model: leave out --model and --beam-width")
    source = caption_with_service(url, key, images) if url else _from_model(model, env, images, beam_width)
    results = []
    for result in source:
        results.append(result)
        if not as_json:
            _print(result, named=len(images) > 1)
    if as_json:
        click.echo(json.dumps([result.as_json() for result in results], indent=2, ensure_ascii=False))
    if attention is not None and isinstance(results[0], PhotoCaption):
        _draw(images[0], results[0], attention)
    if any(isinstance(result, Failure) for result in results):
        sys.exit(1)


def _from_model(
    model: str | None, env: str | None, images: Sequence[Path], beam_width: int | None
) -> Iterator[PhotoCaption | Failure]:
    folder, name = bundle_folder(project_folder(), model, env)
    from captionloop.captioner.captioner import Captioner

    return caption_with_model(Captioner.load(folder), name, images, beam_width)


def _print(result: PhotoCaption | Failure, *, named: bool) -> None:
    if isinstance(result, Failure):
        click.echo(f"captionloop: {result.image}: {result.error}", err=True)
    else:
        click.echo(f"{result.image}: {result.caption}" if named else result.caption)
        if result.familiar is False:
            click.echo(
                f"captionloop: {result.image}: this photo is unlike anything the model learnt from; do not"
                " rely on its caption",
                err=True,
            )


def _draw(image: Path, result: PhotoCaption, path: Path) -> None:

    try:
        attention_figure(read_photo(image), result).savefig(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The figure cannot be written to {path} ({error})") from error
    click.echo(f"Attention drawn to {path}", err=True)
