"""The `captionloop` command line.

Commands live in `captionloop.commands`, each imported only when it is called, so that `captionloop --help`
is there at once. A new command is one more line in `COMMANDS`.
"""

import os
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from captionloop import __version__
from captionloop.errors import CaptionloopError


@dataclass(frozen=True)
class Command:
    """Where a command is found, and what `captionloop --help` says of it without importing it."""

    where: str
    help: str

    def load(self) -> click.Command:
        """Imports the module and takes the command out of it."""
        module, name = self.where.split(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command


COMMANDS = {
    "caption": Command("captionloop.commands.caption:caption", "Caption photos."),
    "models": Command(
        "captionloop.commands.models:models", "List, show, sign, promote and roll back registered models."
    ),
    "serve": Command("captionloop.commands.serve:serve", "Start the service with the champion."),
    "keys": Command("captionloop.commands.admin:keys", "Create, list, rotate and revoke API keys."),
    "package": Command("captionloop.commands.serve:package", "Build a Bento around a model."),
    "verify": Command(
        "captionloop.commands.verify:verify", "Check that the service answers as a version should."
    ),
    "ratings": Command(
        "captionloop.commands.report:ratings", "Count the ratings that no version has learnt from."
    ),
    "gold": Command("captionloop.commands.gold:gold", "Show raters photos whose captions are known."),
    "outcome": Command(
        "captionloop.commands.report:outcome", "Print what came of a step of a retraining run."
    ),
    "step-ended": Command(
        "captionloop.commands.report:step_ended", "Keep why a step of a retraining run failed."
    ),
    "heartbeat": Command(
        "captionloop.commands.report:heartbeat", "Note that a retraining has come to its end."
    ),
    "erase": Command("captionloop.commands.erasing:erase", "Erase everything of a person, a key or a photo."),
    "erased": Command(
        "captionloop.commands.erasing:erased", "Say where something that was erased is no more."
    ),
    "reconcile": Command(
        "captionloop.commands.erasing:reconcile", "Finish erasures, and find what differs from the archive."
    ),
    "features": Command(
        "captionloop.commands.features:features", "Move, check and compact the stores of features."
    ),
    "database": Command("captionloop.commands.admin:database", "Bring the ratings database up to date."),
    "report": Command("captionloop.commands.report:report", "Show the last evaluation and what came of it."),
    "doctor": Command(
        "captionloop.commands.doctor:doctor", "Say what is installed, what is missing, and what to do."
    ),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, and whose errors are one line each."""

    def __init__(self, *args: Any, lazy: dict[str, Command], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table, which is the order in which people need them."""
        return [*self.lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the module of the command that was asked for, and of no other."""
        if cmd_name in self.lazy:
            return self.lazy[cmd_name].load()
        return super().get_command(ctx, cmd_name)

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in self.lazy.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; shows what its user can mend as one line, exit code 1."""
        try:
            return super().invoke(ctx)
        except CaptionloopError as error:
            _fail(str(error))
        except BrokenPipeError:
            raise  # whoever reads has enough: click ends quietly
        except OSError as error:
            _fail(" ".join(str(error).split()) or type(error).__name__)


def _fail(message: str) -> NoReturn:
    click.echo(f"captionloop: {message}", err=True)
    sys.exit(1)


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="captionloop")
def main() -> None:
    """Caption photos, and look after the models that do it.

    The pipelines that make the models are run with kedro: see kedro run --help.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started us; what asks it for a terminal would fail
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    os.environ.setdefault("DO_NOT_TRACK", "1")  # MLflow would report to its makers
    if any(name.startswith("CAPTIONLOOP_") for name in os.environ):
        from captionloop.serving.service_settings import Settings

        for line in Settings.misspelt():
            click.echo(f"captionloop: {line}", err=True)


# Kedro imports this module as the project's own command line, wants a group of this name in it, and merges
# the group's commands into `kedro`. Ours are not Kedro's; its own `run` is given clearer errors.
cli = LazyGroup(
    "captionloop", lazy={"run": Command("captionloop.commands.kedro_run:run", "Run the pipeline.")}
)
