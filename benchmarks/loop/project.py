"""The project that is played with: where it stands, and what its configuration says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]


def configured(name: str, env: str | None = None, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A group of parameters, in a Kedro environment and with runtime parameters."""
    from captionloop.config import read_configuration

    return dict(read_configuration(ROOT, env or "base", params)["parameters"][name])
