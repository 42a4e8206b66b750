"""The project that is played with: where it stands, and what its configuration says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]


def configured(name: str, env: str | None = None, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A group of parameters, in a Kedro environment and with runtime parameters."""
    from kedro.config import OmegaConfigLoader

    loader = OmegaConfigLoader(
        str(ROOT / "conf"),
        env=env,
        base_env="base",
        default_run_env="base",
        runtime_params=dict(params or {}),
    )
    return dict(loader["parameters"][name])
