"""What a bundle contains, as checksums: how a version is recognised and how damage to it is found."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from captionloop.captioner.bundle import CONFIG, ENCODER, MODEL, OPTIONAL, TOKENIZER, verify_bundle

# These say which captions the model gives; the other files describe it. A bundle whose description was
# written anew (another commit, a speed measured again) is still the same model.
DECIDING = (CONFIG, MODEL, ENCODER, TOKENIZER, *OPTIONAL)


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in the folder by its relative path; empty where there is no folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def fingerprint(bundle: Path) -> str:
    """One hash over everything that decides which captions the model gives: weights, words, configuration.

    Raises `BundleError` where the folder is not a bundle, or a damaged one.
    """
    verify_bundle(bundle)
    # Only a bundle that ranks by a consensus has neighbours, and those of before format 4 no familiarity.
    deciding = {name: _sha256(bundle / name) for name in DECIDING if (bundle / name).exists()}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def damaged_files(bundle: Path, expected: Mapping[str, str]) -> list[str]:
    """Names of the files that are missing from the folder, or are not the ones that were registered."""
    found = checksums(bundle)
    return sorted(name for name, digest in expected.items() if found.get(name) != digest)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
