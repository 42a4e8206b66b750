"""Versions of the captioner, and the gate between a candidate and the champion."""

from captionloop.registry.evidence import Evidence, KeptCaptions, evaluation_set_hash
from captionloop.registry.gate import Check, GateDecision, GateParameters, decide
from captionloop.registry.gate_report import gate_report
from captionloop.registry.model_registry import ModelRegistry
from captionloop.registry.model_version import ModelVersion

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
    "gate_report",
]
