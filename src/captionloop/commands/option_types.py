"""Kinds of options that commands share: paths as they are written, lifetimes, where the service answers."""

import re
from datetime import timedelta
from typing import Any

import click

from captionloop.paths import expanded
from captionloop.workspaces import is_remote

_WRITTEN = re.compile(r"(?P<number>[1-9]\d{0,5})(?P<unit>[hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_LONGEST = timedelta(days=36_500)

SERVICE_URL = click.option(
    "--url",
    default="http://127.0.0.1:3000",
    show_default=True,
    envvar="CAPTIONLOOP_URL",
    help="Where the service answers. [env: CAPTIONLOOP_URL]",
)
SERVICE_KEY = click.option("--key", envvar="CAPTIONLOOP_KEY", help="API key. [env: CAPTIONLOOP_KEY]")


class WrittenPath(click.Path):
    """A path as an option or argument: `--output=~/x` means what `--output ~/x` does, in every shell."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Spelled out, then as click takes paths."""
        return super().convert(expanded(value) if isinstance(value, str) else value, param, ctx)


class WrittenPlace(WrittenPath):
    """The same of a folder that may be in object storage: a path, or a URI as text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As it is, or as click takes paths."""
        place = expanded(value) if isinstance(value, str) else value
        return place if is_remote(place) else super().convert(place, param, ctx)


class Lifetime(click.ParamType[timedelta]):
    """A number of hours, days or weeks, at most a hundred years."""

    name = "lifetime"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """`90d` as a `timedelta`."""
        found = _WRITTEN.fullmatch(str(value).strip().lower())
        lifetime = int(found["number"]) * _UNITS[found["unit"]] if found else None
        if lifetime is None or lifetime > _LONGEST:
            self.fail(f"{value!r} is no lifetime: write 12h, 90d or 52w", param, ctx)
        return lifetime


LIFETIME = Lifetime()
