"""`captionloop erase`, `erased`, `reconcile`: erase data everywhere, and show what remains of it."""

import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click

from captionloop.commands.model_lookup import Catalog, open_registry, workspace_of
from captionloop.commands.option_types import WrittenPlace
from captionloop.config import environments, is_project, project_folder, read_configuration
from captionloop.errors import ConfigurationError, ImageError
from captionloop.feedback.erasure import DerivedData, locate_data
from captionloop.feedback.run_folders import Run, removable_runs, runs_in
from captionloop.photos import PREFIXES, PhotoArchive
from captionloop.ratings.photo_removal import WRITE_SECONDS, differences, finish_removals, remove_photos
from captionloop.ratings.rating_store import RatingsStore, open_store
from captionloop.serving.logs import by_command
from captionloop.serving.service_settings import Settings
from captionloop.vision.feature_store import FeatureStore
from captionloop.workspaces import below, is_remote, working_copy

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PHOTOS_AT_ONCE = 1000
_option_env = click.option("--env", help="Kedro environment whose workspace and feature store are meant.")
_option_store = click.option(
    "--feature-store", help="The feature store, where a run was given another than the environment's."
)


@dataclass(frozen=True)
class _Opened:
    store: RatingsStore
    archive: PhotoArchive
    derived: DerivedData | None


@click.command()
@click.option("--rater", help="All of a person or key: person:…, key:…")
@click.option("--key", "key_id", help="All of an API key, by its id.")
@click.option("--photo", help="All captions of a photo, whoever made them: a file, or its SHA-256.")
@_option_env
@_option_store
def erase(
    rater: str | None, key_id: str | None, photo: str | None, env: str | None, feature_store: str | None
) -> None:
    """Erase everything of a person, a key or a photo: captions, ratings, photos, and what was made of them.

    Prints what remains; exit code 1 if something does.
    """
    if sum(given is not None for given in (rater, key_id, photo)) != 1:
        raise ConfigurationError("say what to erase: one of --rater, --key and --photo")
    person = f"key:{key_id}" if key_id is not None else rater
    if person is not None and not re.fullmatch(r"(person|key):\w+", person):
        raise ConfigurationError(f"{person!r} names nobody: write person:… or key:…, as the ratings do")
    names = [person] if person is not None else _photo_names(str(photo))
    with _opened(env, feature_store) as opened:
        with by_command("erase", names[0]):
            _erase(names, person is not None, opened)
        _print_locations(names, opened)


def _erase(names: list[str], are_people: bool, opened: _Opened) -> None:
    """Erases from the database, the archive, and derived data if the project is here."""
    store, ledger = opened.store, opened.store.ledger
    known = locate_data(names, store, opened.archive, None).known
    for name in names:
        erase_some = store.erase_person if are_people else store.erase_photo
        while erase_some(name).result(WRITE_SECONDS) is not None:
            pass
    if not known:
        raise ConfigurationError(f"there is nothing of {names[0]}, and never was as far as is remembered")
    for name in names:
        photos = {each.photo_sha256 for each in ledger.tombstones_of(name) if each.archive_done_at is None}
        remove_photos(ledger, opened.archive, sorted(each for each in photos if each))
    if opened.derived is not None:
        opened.derived.remove(ledger)


@click.command()
@click.argument("name", metavar="ID")
@_option_env
@_option_store
def erased(name: str, env: str | None, feature_store: str | None) -> None:
    """Say where something that was erased is no more, and where something of it remains.

    ID is that of a caption, a person or key (person:…, key:…), or a photo: a file or its SHA-256. Exit code 1
    if something remains.
    """
    with _opened(env, feature_store) as opened:
        _print_locations(_photo_names(name) if Path(name).is_file() else [name], opened)


@click.command()
@click.option(
    "--remove-unnamed",
    is_flag=True,
    help="Remove photos from the archive that nothing in the database names.",
)
@click.option("--no-pipelines", is_flag=True, help="There is no feature store here, and there are no runs.")
@click.option(
    "--workspace",
    type=WrittenPlace(path_type=Path, file_okay=False),
    help="Folder of the run that calls this: it counts as ended.",
)
@_option_env
@_option_store
def reconcile(
    *,
    remove_unnamed: bool,
    no_pipelines: bool,
    workspace: Path | str | None,
    env: str | None,
    feature_store: str | None,
) -> None:
    """Finish erasures, find what differs between database and archive, and remove runs that are not kept.

    Run in the project, it takes what was erased out of feature store and folders of runs as well. Exit code 1
    if photos are in the archive that nothing names, or captions show photos that are gone.
    """
    with _opened(env, feature_store, workspace) as opened, by_command("reconcile", "archive"):
        differing = _reconcile_archive(opened, remove=remove_unnamed)
        if no_pipelines:
            _without_pipelines(opened.store)
        elif opened.derived is not None:
            removed = opened.derived.remove(opened.store.ledger)
            click.echo(f"{removed.features} features and {removed.files} files of erased photos removed")
            if removed.waits_for:
                click.echo(f"the rest waits for runs to end: {', '.join(removed.waits_for)}")
            _prune(project_folder(), env, workspace)
    if differing:
        sys.exit(1)


def _reconcile_archive(opened: _Opened, *, remove: bool) -> bool:
    """Whether database and archive differ in the end."""
    ledger, archive = opened.store.ledger, opened.archive
    finished = finish_removals(ledger, archive, _PHOTOS_AT_ONCE)
    while finished.settled == _PHOTOS_AT_ONCE:
        finished = finish_removals(ledger, archive, _PHOTOS_AT_ONCE)
    if finished.remaining:
        click.echo(
            f"{len(finished.remaining)} erased photos remain in the archive: {finished.problem or 'in use'}"
        )
    unnamed: list[str] = []
    lost: list[str] = []
    for prefix in PREFIXES:
        found = differences(ledger, archive, prefix)
        unnamed += found.orphans
        lost += found.lost
    for sha256 in lost:
        click.echo(f"photo {sha256} is gone, and captions show it")
    if unnamed and remove:
        ledger.request_removal(unnamed, "unnamed").result(WRITE_SECONDS)
        result = remove_photos(ledger, archive, unnamed)
        click.echo(f"{result.settled} photos that nothing named removed")
        unnamed = list(result.remaining)
    for sha256 in unnamed:
        click.echo(f"photo {sha256} is in the archive, and nothing names it: --remove-unnamed removes it")
    if not unnamed and not lost:
        click.echo("database and photo archive agree")
    return bool(unnamed or lost or finished.problem)


def _without_pipelines(store: RatingsStore) -> None:
    numbers = [each.tombstone_id for each in store.ledger.pending_cleanup()]
    store.ledger.mark_derived_removed(features=numbers, runs=numbers).result(WRITE_SECONDS)


def _prune(project: Path, env: str | None, given: Path | str | None) -> None:
    """Remove folders of runs but for the newest, and those that a version in use comes from."""
    keep = int(read_configuration(project, env)["globals"].get("keep_runs", 10))
    place = below(_workspace(project, env), "runs")
    runs = runs_in(place)
    own = _folder(project, given)
    if removable_runs(runs, keep, [], own):
        removed = _remove_old_runs(project, runs, keep, own)
        runs = [run for run in runs if run not in removed]
    if runs:
        summary = f"{len(runs)} runs, {sum(run.size() for run in runs) / 1e9:.1f} GB"
        click.echo(
            f"{place} holds {summary}: those under way, the newest {keep} of each "
            "kind (keep_runs in globals.yml), and those of versions in use"
        )


def _remove_old_runs(project: Path, runs: Sequence[Run], keep: int, own: Path | None) -> list[Run]:
    """The runs that were removed."""
    needed = []
    for each in environments(project):
        versions = open_registry(project, each).versions()
        replaced = {version.replaced for version in versions if version.is_champion}
        needed += [
            (version.name, version.version)
            for version in versions
            if version.aliases or version.version in replaced
        ]
    removed = removable_runs(runs, keep, needed, own)
    for run in removed:
        run.remove()
        click.echo(f"run {run.name} removed: of each kind the newest {keep} are kept")
    return removed


def _print_locations(names: list[str], opened: _Opened) -> None:
    found = locate_data(names, opened.store, opened.archive, opened.derived)
    if not found.known:
        raise ConfigurationError(
            f"nothing is known of {names[0]}: it was never kept here, or its erasure is long forgotten"
        )
    for each in found.erasures[-1:]:
        count = len(found.erasures)
        times = "" if count == 1 else f", the last of {count} erasures"
        click.echo(f"{names[0]}: erased {each.erased_at:%Y-%m-%d %H:%M:%S} UTC ({each.reason}{times})")
    for place in found.places:
        since = f"gone, noted {place.gone_since:%Y-%m-%d %H:%M:%S} UTC" if place.gone_since else "gone"
        click.echo(f"  {place.name:<16} {f'REMAINS: {place.remains}' if place.remains else since}")
    for note in found.notes:
        click.echo(f"  {note}")
    if opened.derived is None:
        click.echo("  feature stores and runs are as the ledger says: look in the project for yourself")
    if not found.gone:
        sys.exit(1)


def _photo_names(given: str) -> list[str]:
    """The SHA-256 of a photo as it was sent, and as it is kept."""
    if _SHA256.fullmatch(given):
        return [given]
    path = Path(given)
    if not path.is_file():
        raise ConfigurationError(f"{given!r} is neither a file nor a SHA-256 in hexadecimal")
    from captionloop.image_metadata import without_metadata

    files = [path.read_bytes()]
    with suppress(ImageError):  # a file that is no photo was never kept as one
        files.append(without_metadata(files[0]))
    return list(dict.fromkeys(hashlib.sha256(each).hexdigest() for each in files))


@contextmanager
def _opened(env: str | None, feature_store: str | None, own: Path | str | None = None) -> Iterator[_Opened]:
    settings = Settings.from_environment()
    if not settings.has_database:
        raise ConfigurationError(
            "there is no ratings database: set CAPTIONLOOP_DATABASE or CAPTIONLOOP_STATE as for the service"
        )
    project = project_folder()
    derived = _derived(project, env, feature_store, own) if is_project(project) else None
    store = open_store(settings.database_url, is_embedded=settings.embedded_database)
    try:
        yield _Opened(store, PhotoArchive(settings.photo_root), derived)
    finally:
        store.close()


def _derived(
    project: Path, env: str | None, feature_store: str | None, own: Path | str | None
) -> DerivedData:
    workspace = _workspace(project, env)
    root = feature_store or Catalog(project, env).root("base_feature_store")
    return DerivedData(
        FeatureStore(root),
        runs_in(below(workspace, "runs")),
        _corpus_photos(workspace),
        _folder(project, own),
    )


def _corpus_photos(workspace: str) -> frozenset[str]:
    import pandas as pd

    folder = Path(workspace)
    if is_remote(workspace):
        copy = working_copy()
        folder = copy.path_of(workspace)
        corpora = copy.folders(folder / "02_intermediate")
        copy.fetch([folder / "02_intermediate" / corpus / "images.parquet" for corpus in corpora])
    tables = folder.glob("02_intermediate/*/images.parquet")
    return frozenset(sha for table in tables for sha in pd.read_parquet(table, columns=["sha256"])["sha256"])


def _workspace(project: Path, env: str | None) -> str:
    """The environment's workspace: a whole path, or a URI."""
    workspace = workspace_of(project, env)
    return workspace if is_remote(workspace) else str((project / workspace).resolve())


def _folder(project: Path, own: Path | str | None) -> Path | None:
    """Where the folder of the run that asks lies here."""
    if own is None:
        return None
    return working_copy().path_of(str(own)) if is_remote(own) else (project / own).resolve()
