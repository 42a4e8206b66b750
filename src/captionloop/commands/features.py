"""`captionloop features`: look after the feature store: move an older one, find damage, give back space."""

from collections.abc import Iterator

import click

from captionloop.commands.model_lookup import Catalog, workspace_of
from captionloop.config import project_folder
from captionloop.errors import StoreError
from captionloop.feedback.run_folders import runs_in
from captionloop.vision.feature_store import FeatureStore
from captionloop.workspaces import below, is_remote

_option_env = click.option("--env", help="Kedro environment whose feature store and runs are meant.")
_option_store = click.option("--feature-store", help="One store only: a folder or a URI.")


@click.group()
def features() -> None:
    """Look after the feature stores: the environment's own, and those of runs."""


@features.command()
@_option_env
@_option_store
def migrate(env: str | None, feature_store: str | None) -> None:
    """Move features that an older version has written into the tables of this one."""
    from captionloop.vision.legacy_shards import migrate_shards

    for store in _stores(env, feature_store):
        click.echo(f"{store.root}: {migrate_shards(store)} features moved")


@features.command()
@_option_env
@_option_store
def scrub(env: str | None, feature_store: str | None) -> None:
    """Read all features, and delete the damaged ones: feature_caching makes them anew."""
    for store in _stores(env, feature_store):
        for table in store.tables():
            try:
                rows, deleted = table.scrub()
            except OSError as error:
                raise StoreError(f"{table.uri} cannot be mended: {error.strerror or error}") from error
            click.echo(f"{table.uri}: {rows} features, {deleted} damaged and deleted")


@features.command()
@_option_env
@_option_store
def compact(env: str | None, feature_store: str | None) -> None:
    """Join small files of features, and remove what no reader that begins now would read."""
    for store in _stores(env, feature_store):
        for table in store.tables():
            try:
                table.compact()
            except OSError as error:
                raise StoreError(f"{table.uri} cannot be compacted: {error.strerror or error}") from error
            click.echo(f"{table.uri}: compacted")


def _stores(env: str | None, feature_store: str | None) -> Iterator[FeatureStore]:
    if feature_store is not None:
        yield FeatureStore(feature_store)
        return
    project = project_folder()
    yield FeatureStore(Catalog(project, env).root("base_feature_store"))
    workspace = workspace_of(project, env)
    runs = runs_in(below(workspace if is_remote(workspace) else str((project / workspace).resolve()), "runs"))
    for run in runs:
        yield run.store
