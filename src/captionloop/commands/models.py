"""`captionloop models`: what is registered and served, how to change it, and the history of what was done."""

import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from captionloop.commands.model_lookup import open_registry
from captionloop.commands.option_types import LIFETIME, WrittenPath
from captionloop.commands.shadow_and_canary import canary, shadow
from captionloop.config import project_folder

if TYPE_CHECKING:
    from rich.table import Table

    from captionloop.registry.history import HistoryEntry
    from captionloop.registry.model_version import ModelVersion

ACTION_TEXTS = {
    "register": "registered",
    "pass": "passed the gate",
    "refuse": "was refused",
    "promote": "was promoted",
    "verify": "was verified",
    "rollback": "was rolled back",
    "withdraw": "gave its place back",
    "sign": "was signed",
    "found": "was found to be champion",
    "shadow": "began as a shadow",
    "canary": "began as a canary",
    "end": "ended",
}


@click.command()
@click.argument("version", required=False)
@click.option("--env", help="Kedro environment whose mlflow.yml names the registry.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def history(version: str | None, env: str | None, as_json: bool) -> None:
    """Show what was done to all versions, or to VERSION: who, when, why; the oldest first.

    Nothing in it is ever changed: it is kept in the registry, and lines are only added. What was done before
    there was a history is told by the tags of the versions, as far as they do.
    """
    registry = open_registry(project_folder(), env)
    entries = registry.history()
    if version is not None:
        number = registry.version(version).version
        entries = [entry for entry in entries if number in {entry.version, entry.champion, entry.before}]
    if as_json:
        documents = [entry.model_dump(mode="json", exclude={"number"}) for entry in entries]
        click.echo(json.dumps(documents, indent=2, ensure_ascii=False))
        return
    if not entries:
        click.echo("No models are registered yet: make one with make demo.")
    for entry in entries:
        click.echo(sentence(entry))


def sentence(entry: "HistoryEntry") -> str:
    """One line for people."""
    when = f"{entry.at:%Y-%m-%d %H:%M:%S}" if entry.at else "some time before    "
    done = (
        f"was {entry.outcome}" if entry.action == "verify" and entry.outcome else ACTION_TEXTS[entry.action]
    )
    if entry.outcome == "passed":
        done = "passed the verification"
    elif entry.outcome == "failed":
        done = "failed the verification"
    text = f"{when}  version {entry.version} {done}"
    if entry.action == "end":
        text += f" as a {entry.evidence.get('role', 'trial')}: {entry.outcome}"
    if entry.action in {"rollback", "withdraw"} and entry.champion is not None:
        text += f", version {entry.champion} is champion again"
    elif entry.before is not None:
        text += f" in the place of version {entry.before}"
    if entry.served:
        text += f"; champions before: {', '.join(map(str, entry.served))}"
    by = f" by {entry.by}" if entry.by else ""
    why = f": {entry.why}" if entry.why else ""
    evidence = ", ".join(f"{name} {value}" for name, value in entry.evidence.items())
    return f"{text}{by}{why}" + (f" [{evidence}]" if evidence else "")


def last_verification(entries: Sequence["HistoryEntry"], version: int) -> "HistoryEntry | None":
    """What a verification found of a version since it was promoted last, or None."""
    found = None
    for entry in entries:
        if entry.version == version and entry.action in {"promote", "found"}:
            found = None
        elif entry.version == version and entry.action == "verify":
            found = entry
    return found


METRICS = ("CIDEr", "BLEU-4")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
WHY = click.option("--why", default="", help="A sentence for the history: captionloop models history.")
ENV = click.option("--env", help="Kedro environment whose mlflow.yml names the registry.")


@click.group()
def models() -> None:
    """List, show, sign, try, promote and roll back registered models, and see what was done to them.

    A VERSION is a number or one of the aliases champion, challenger, previous, shadow and canary.
    """


models.add_command(history)
models.add_command(shadow)
models.add_command(canary)


@models.command("list")
@ENV
@JSON
def list_versions(env: str | None, as_json: bool) -> None:
    """List all versions, the newest first."""
    versions = open_registry(project_folder(), env).versions()
    if as_json:
        _print_json([_as_json(version) for version in versions])
    elif not versions:
        click.echo("No models are registered yet: make one with make demo.")
    else:
        from rich.console import Console

        # In a pipe a version is one line, however long; on a terminal it is folded to the width.
        Console(width=None if sys.stdout.isatty() else 200).print(_table(versions))


@models.command()
@click.argument("version")
@ENV
@JSON
def show(version: str, env: str | None, as_json: bool) -> None:
    """Show one version: its metrics, the gate's decision, its lineage."""
    found = open_registry(project_folder(), env).version(version)
    if as_json:
        _print_json(_as_json(found))
        return
    lines = _lines(found)
    widest = max(len(name) for name, _ in lines)
    for name, value in lines:
        click.echo(f"{name:<{widest}}  {value}")


@models.command()
@click.argument("version")
@click.option(
    "--gated",
    is_flag=True,
    help="Refuse unless the gate passed it against the present champion and its files are undamaged.",
)
@WHY
@ENV
def promote(version: str, gated: bool, why: str, env: str | None) -> None:
    """Make VERSION the champion, whatever the gate said of it (unless --gated)."""
    from captionloop.serving.logs import by_command

    registry = open_registry(project_folder(), env)
    before = registry.champion()
    with by_command("models.promote", f"{registry.name} {version}"):
        promoted = (
            registry.promote_gated(version)
            if gated
            else registry.promote(version, check_files=True, why=why or "by hand")
        )
    if before is not None and before.version == promoted.version:
        click.echo(f"Version {promoted.version} is the champion already.")
        return
    click.echo(f"Version {promoted.version} is now the champion.")
    if promoted.passed_gate is False:
        click.echo(f"The gate had refused it. {promoted.reason}", err=True)
    previous = registry.previous()
    if previous is not None:
        click.echo(f"Back to version {previous.version}: captionloop models rollback")


@models.command()
@click.option(
    "--only-from",
    type=int,
    metavar="VERSION",
    help="Do nothing unless this version is the champion: safe to repeat.",
)
@click.option(
    "--after-verify",
    is_flag=True,
    help="Hold it against the version only if captionloop verify found it at fault. One that could not be "
    "verified gives its place back, and may be promoted and verified again.",
)
@WHY
@ENV
def rollback(only_from: int | None, after_verify: bool, why: str, env: str | None) -> None:
    """Give the champion's place back to the newest earlier champion that was not itself rolled back."""
    from captionloop.serving.logs import by_command

    registry = open_registry(project_folder(), env)
    old = registry.champion()
    if only_from is not None and (old is None or old.version != only_from):
        held = f"version {old.version} is" if old else "there is none"
        click.echo(f"Version {only_from} is not the champion ({held}): nothing to roll back.")
        return
    is_at_fault = True
    if after_verify and old is not None:
        verified = last_verification(registry.history(), old.version)
        is_at_fault = verified is not None and verified.outcome == "failed"
        why = why or (verified.why if verified else "it was not verified")
    with by_command("models.rollback", f"{registry.name} {old.version if old else 'champion'}"):
        new = registry.rollback(check_files=True, only_from=only_from, blame=is_at_fault, why=why)
    click.echo(f"Version {new.version} is the champion again.")
    if not is_at_fault and old is not None:
        click.echo(f"Version {old.version} was not verified, which is no fault of it: promote it again.")
    elif old is not None:
        click.echo(f"Forward to version {old.version}: captionloop models promote {old.version}")


@models.command()
@click.argument("version")
@ENV
def sign(version: str, env: str | None) -> None:
    """Sign VERSION with the key that CAPTIONLOOP_SIGNING_KEY names, in place of its signature, if any.

    For a version that you know to be yours: from before there were keys, or signed by one that shall count
    no more. What is registered is signed by itself where that key is set.
    """
    from captionloop.serving.logs import by_command

    registry = open_registry(project_folder(), env)
    with by_command("models.sign", f"{registry.name} {version}"):
        signed, key_id = registry.sign(version)
    click.echo(f"Version {signed.version} is signed by key {key_id}.")


@models.command()
@click.argument("folder", type=WrittenPath(path_type=Path, file_okay=False))
@click.option("--expires", type=LIFETIME, help="How long it is trusted: 365d, 52w. [default: until removed]")
def keygen(folder: Path, expires: timedelta | None) -> None:
    """Make a key pair to sign models with, as two files in FOLDER.

    The private key, signing-key.pem, is for whoever registers models: CAPTIONLOOP_SIGNING_KEY names it. The
    public one goes into the trust stores of whoever promotes and serves them: CAPTIONLOOP_TRUST_STORE names
    a folder of such files, or one file.
    """
    from captionloop.registry.signing import make_key_pair
    from captionloop.serving.logs import by_command

    with by_command("models.keygen", str(folder)):
        private, public = make_key_pair(folder, expires)
    click.echo(f"private  {private}")
    click.echo(f"public   {public}")


def _table(versions: list["ModelVersion"]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("version", "is", "model"):
        table.add_column(heading, no_wrap=True)
    for metric in METRICS:
        table.add_column(metric, justify="right", no_wrap=True)
    for heading in ("gate", "registered"):
        table.add_column(heading, no_wrap=True)
    for version in versions:
        table.add_row(
            str(version.version),
            ", ".join(version.aliases) or ("rolled back" if version.rolled_back else ""),
            version.lineage.get("model", ""),
            *(_percent(version.metrics.get(metric)) for metric in METRICS),
            {True: "passed", False: "refused", None: ""}[version.passed_gate],
            f"{version.created:%Y-%m-%d}",
        )
    return table


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _lines(version: "ModelVersion") -> list[tuple[str, Any]]:
    return [
        ("version", version.version),
        ("aliases", ", ".join(version.aliases) or "none"),
        ("registered", f"{version.created:%Y-%m-%d %H:%M:%S} UTC"),
        *([("rolled back", version.rolled_back)] if version.rolled_back else []),
        *([("replaced", version.replaced)] if version.replaced else []),
        *((metric, _percent(value)) for metric, value in version.metrics.items()),
        ("gate", version.reason or "not brought to the gate"),
        *((name.replace("_", " "), value) for name, value in version.lineage.items()),
        ("fingerprint", version.fingerprint),
        ("artifacts", version.source),
        ("MLflow run", version.run_id),
    ]


def _as_json(version: "ModelVersion") -> dict[str, Any]:
    return {
        "version": version.version,
        "aliases": list(version.aliases),
        "created": version.created.isoformat(),
        "metrics": dict(version.metrics),
        "gate": dict(version.gate),
        "lineage": dict(version.lineage),
        "fingerprint": version.fingerprint,
        "source": version.source,
        "run_id": version.run_id,
        "replaced": version.replaced,
        "rolled_back": version.rolled_back,
    }


def _print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
