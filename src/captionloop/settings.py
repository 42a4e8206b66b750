"""Kedro's project settings. https://docs.kedro.org/en/stable/configure/configuration_basics/"""

from captionloop.conf_loader import LOADER_ARGS
from captionloop.hooks import (
    CheckedConfiguration,
    OneCorpusPerModel,
    OneLineConfigLoader,
    OneLineErrors,
    OneMlflowRun,
    OnePipelineRun,
    WholeMlflowStore,
)
from captionloop.provenance.incremental import IncrementalSession
from captionloop.provenance.recording import ProvenanceRecorder

# Of two that go first, the later one is called first: what is configured is checked before anything is made.
HOOKS = (
    WholeMlflowStore(),
    CheckedConfiguration(),
    OneCorpusPerModel(),
    OneMlflowRun(),
    OneLineErrors(),
    OnePipelineRun(),
    ProvenanceRecorder(),
)
SESSION_CLASS = IncrementalSession
CONFIG_LOADER_CLASS = OneLineConfigLoader
CONFIG_LOADER_ARGS = LOADER_ARGS
