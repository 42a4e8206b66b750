"""`captionloop ratings`: have enough new ratings come in for a retraining."""

import sys
from datetime import UTC, datetime

import click

from captionloop.commands.project import open_registry, project_folder
from captionloop.errors import ConfigurationError


@click.command()
@click.option("--least", default=50, show_default=True, type=click.IntRange(1), help="How many are enough.")
@click.option("--since", default="", help="Count from this moment (ISO 8601), if it is later.")
@click.option("--env", help="Kedro environment whose mlflow.yml names the registry.")
@click.option(
    "--skip-code", default=0, show_default=True, type=click.IntRange(0, 255), help="Exit code if too few."
)
def ratings(least: int, since: str, env: str | None, skip_code: int) -> None:
    """Count the ratings that were given or changed since the newest version that learnt from ratings."""
    from captionloop.feedback.statistics import count_ratings
    from captionloop.serving.assembly import open_store
    from captionloop.serving.settings import Settings

    versions = open_registry(project_folder(), env).versions()
    moments = [_moment(since)] if since else []
    taught = [
        version.lineage["feedback_until"] for version in versions if "feedback_until" in version.lineage
    ]
    moments += [_moment(taught[0])] if taught else []
    count = 0
    settings = Settings.from_environment()
    if settings.has_database:
        store = open_store(settings)
        try:
            count = count_ratings(store.reader, max(moments, default=None))
        finally:
            store.close()
    click.echo(f"{count} new ratings, {least} needed")
    if count < least:
        sys.exit(skip_code)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"--since {text!r} is no moment: write 2026-11-24T18:00:00+00:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
