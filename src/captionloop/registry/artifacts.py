"""The files of a version, between a folder here and the artifacts of its MLflow run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from captionloop.errors import RegistryError
from captionloop.registry import connection, scratch
from captionloop.registry.contents import damaged_files
from captionloop.registry.model_version import ModelVersion
from captionloop.registry.signatures import SIGNATURE, Signing, signature_of
from captionloop.vision.durable import replace_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

BUNDLE = "bundle"
EVIDENCE = "evidence"
GATE = "gate"


def download_bundle(client: "MlflowClient", version: ModelVersion, folder: Path, signing: Signing) -> None:
    """Puts the version's bundle at `folder`, whole and checked file by file, or raises `RegistryError`.

    Where signatures are asked for, its own comes to lie beside it; what is not signed never lies there.
    """
    with _downloaded(client, version, BUNDLE, beside=folder) as partial:
        damaged = damaged_files(partial, version.checksums)
        if damaged:
            raise RegistryError(
                f"The artifacts of {version.name} version {version.version} are missing or damaged "
                f"({', '.join(damaged)} in {version.source}): use another version, or register this one again"
            )
        check_signature(client, version, partial, signing)
        replace_folder(partial, folder)
        if signing.trust_store is not None:
            signature_of(partial).replace(signature_of(folder))


def check_signature(client: "MlflowClient", version: ModelVersion, folder: Path, signing: Signing) -> None:
    """Where signatures are asked for, fetches that of the version's bundle at `folder` and puts it beside.

    Raises `SignatureError` unless it is a trusted key's, of this very bundle.
    """
    if signing.trust_store is None:
        return
    beside = signature_of(folder)
    called = f"{version.name} version {version.version}"
    with scratch.beside(beside) as place:
        fetched = place / SIGNATURE
        with connection.for_people(f"fetch the signature of {called}"):
            known = [each.path for each in client.list_artifacts(version.run_id, version.artifacts)]
            if f"{version.artifacts}/{SIGNATURE}" in known:
                path = f"{version.artifacts}/{SIGNATURE}"
                fetched = Path(client.download_artifacts(version.run_id, path, str(place)))
        signing.check(folder, fetched, called)
        fetched.replace(beside)


def download_evidence(client: "MlflowClient", version: ModelVersion, folder: Path) -> bool:
    """Puts at `folder` what was kept beside the version's bundle; False where there is nothing."""
    # Asked first, because what a download of nothing is depends on the store: an error, or an empty folder.
    with connection.for_people(f"look for the {EVIDENCE} of {version.name} version {version.version}"):
        if not client.list_artifacts(version.run_id, f"{version.artifacts}/{EVIDENCE}"):
            return False
    with _downloaded(client, version, EVIDENCE, beside=folder) as partial:
        replace_folder(partial, folder)
        return True


@contextmanager
def _downloaded(client: "MlflowClient", version: ModelVersion, part: str, beside: Path) -> Iterator[Path]:
    """A part of a version's artifacts in a temporary folder on the same file system as `beside`."""
    with scratch.beside(beside) as folder:
        with connection.for_people(f"fetch the {part} of {version.name} version {version.version}"):
            place = client.download_artifacts(version.run_id, f"{version.artifacts}/{part}", str(folder))
        yield Path(place)
