"""Where a captioner comes from: what `lineage.json` says."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd

from captionloop.captioner.captioner import Captioner


def lineage(
    captions: pd.DataFrame, *, corpus: str, features: str, training: dict[str, Any], parent: Captioner | None
) -> dict[str, Any]:
    """Git commit, corpus, features, parameters, the captioner it was trained on from, and feedback used.

    `corpus` and `features` are digests; `parent` is None for a captioner from fresh weights.
    """
    return {
        "git_commit": _git_commit(),
        "corpus_sha256": corpus,
        "encoder_fingerprint": features,
        "training": training,
        "parent": None if parent is None else {"name": parent.name, "lineage": parent.lineage},
        "feedback_rows": int((captions["source"] != "human").sum()),
    }


def _git_commit() -> str | None:
    """The commit of this code, from git, or, in an image without git, as noted when it was built."""
    noted = os.environ.get("CAPTIONLOOP_COMMIT")
    if noted:
        return noted
    command = ["git", "rev-parse", "HEAD"]
    try:
        found = subprocess.run(  # noqa: S603
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=False
        )
    except OSError:
        return None
    return found.stdout.strip() or None
