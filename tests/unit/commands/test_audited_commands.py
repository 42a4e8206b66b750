"""Every command either only reads, or leaves a line of what was done in the audit log."""

import inspect
from collections.abc import Iterator

import click
import pytest

from captionloop.cli import COMMANDS

CHANGES = {
    "models promote", "models rollback", "models sign", "models keygen", "keys create", "keys rotate",
    "keys revoke", "erase", "reconcile", "database upgrade", "serve", "models shadow", "models canary",
    "gold",
}  # fmt: skip
"""`serve` makes a key for whoever starts the service for the first time."""
READS = {
    "caption", "models list", "models show", "models history", "keys list", "package", "verify", "ratings",
    "outcome", "step-ended", "erased", "report", "doctor", "heartbeat", "features migrate", "features scrub",
    "features compact",
}  # fmt: skip
"""`package` writes a Bento beside, which nobody is served by until it is deployed. Features are made anew at
any time.
"""


def leaves(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield name, command
        return
    for each, below in command.commands.items():
        yield from leaves(f"{name} {each}", below)


ALL = dict(leaf for name, lazy in COMMANDS.items() for leaf in leaves(name, lazy.load()))


def test_of_every_command_it_is_decided_whether_it_is_audited() -> None:
    assert set(ALL) == CHANGES | READS and not CHANGES & READS


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_a_command_that_changes_something_writes_an_audit_line(name: str) -> None:
    callback = ALL[name].callback
    assert callback is not None
    module = inspect.getmodule(callback)
    assert module is not None
    own = inspect.getsource(callback)
    helpers = (
        inspect.getsource(part)
        for part_name, part in vars(module).items()
        if inspect.isfunction(part) and f"{part_name}(" in own and part.__module__ == module.__name__
    )
    assert "by_command(" in own or any("by_command(" in source for source in helpers)
