"""`captionloop caption`: photos in, captions out, with a model here or through the service."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from captionloop.commands.answers import Answer, Failure, ask_model, ask_service, read_photo
from captionloop.commands.project import WrittenPath, bundle_folder, project_folder
from captionloop.errors import ConfigurationError


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
    if url is not None and (model is not None or beam_width is not None):
        raise ConfigurationError("--url asks the service's own model: leave out --model and --beam-width")
    source = ask_service(url, key, images) if url else _from_model(model, env, images, beam_width)
    answers = []
    for answer in source:
        answers.append(answer)
        if not as_json:
            _print(answer, named=len(images) > 1)
    if as_json:
        click.echo(json.dumps([answer.as_json() for answer in answers], indent=2, ensure_ascii=False))
    if attention is not None and isinstance(answers[0], Answer):
        _draw(images[0], answers[0], attention)
    if any(isinstance(answer, Failure) for answer in answers):
        sys.exit(1)


def _from_model(
    model: str | None, env: str | None, images: Sequence[Path], beam_width: int | None
) -> Iterator[Answer | Failure]:
    folder, name = bundle_folder(project_folder(), model, env)
    from captionloop.captioner.captioner import Captioner

    return ask_model(Captioner.load(folder), name, images, beam_width)


def _print(answer: Answer | Failure, *, named: bool) -> None:
    if isinstance(answer, Failure):
        click.echo(f"captionloop: {answer.image}: {answer.error}", err=True)
    else:
        click.echo(f"{answer.image}: {answer.caption}" if named else answer.caption)
        if answer.familiar is False:
            click.echo(
                f"captionloop: {answer.image}: this photo is unlike anything the model learnt from; do not"
                " rely on its caption",
                err=True,
            )


def _draw(image: Path, answer: Answer, place: Path) -> None:
    from captionloop.commands.attention import attention_figure

    try:
        attention_figure(read_photo(image), answer).savefig(place)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The figure cannot be written to {place} ({error})") from error
    click.echo(f"Attention drawn to {place}", err=True)
