"""Kedro's project settings. https://docs.kedro.org/en/stable/configure/configuration_basics/"""

from kedro.config import OmegaConfigLoader

from captionloop.hooks import OneLineErrors, OneMlflowRun, WholeMlflowStore
from captionloop.provenance.incremental import IncrementalSession
from captionloop.provenance.recording import ProvenanceRecorder

HOOKS = (WholeMlflowStore(), OneMlflowRun(), OneLineErrors(), ProvenanceRecorder())
SESSION_CLASS = IncrementalSession
CONFIG_LOADER_CLASS = OmegaConfigLoader
CONFIG_LOADER_ARGS = {"base_env": "base", "default_run_env": "local"}
