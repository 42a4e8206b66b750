"""Versions of the captioner, and the gate between a candidate and the champion.

The names below are imported when they are asked for: a model server follows the registry with
`model_registry` alone, in an image without pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captionloop.registry.evidence import Evidence, KeptCaptions, evaluation_set_hash
    from captionloop.registry.gate import Check, GateDecision, GateParameters, decide
    from captionloop.registry.model_registry import ModelRegistry
    from captionloop.registry.model_version import ModelVersion

_MODULES = {
    "Evidence": "evidence",
    "KeptCaptions": "evidence",
    "evaluation_set_hash": "evidence",
    "Check": "gate",
    "GateDecision": "gate",
    "GateParameters": "gate",
    "decide": "gate",
    "ModelRegistry": "model_registry",
    "ModelVersion": "model_version",
}

__all__ = [
    "Check",
    "Evidence",
    "GateDecision",
    "GateParameters",
    "KeptCaptions",
    "ModelRegistry",
    "ModelVersion",
    "decide",
    "evaluation_set_hash",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
