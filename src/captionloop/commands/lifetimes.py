"""How long something holds, as an option of a command: `90d`, `12h`, `52w`."""

import re
from datetime import timedelta
from typing import Any

import click

_WRITTEN = re.compile(r"(?P<number>[1-9]\d{0,5})(?P<unit>[hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_LONGEST = timedelta(days=36_500)


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
