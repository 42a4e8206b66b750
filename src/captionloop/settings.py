"""Kedro's project settings. https://docs.kedro.org/en/stable/configure/configuration_basics/"""

import os
import sys
from pathlib import Path

from captionloop.conf_loader import LOADER_ARGS
from captionloop.hooks import (
    CheckedConfiguration,
    CreateMlflowStore,
    OneCorpusPerModel,
    OneLineConfigLoader,
    OnePipelineRun,
    RemoteWorkspace,
    SharedMlflowRun,
    TrainedCandidate,
    UserErrorHook,
)
from captionloop.progress import log_in_lines
from captionloop.provenance.incremental import IncrementalSession, StopIfUpToDate
from captionloop.provenance.recording import ProvenanceRecorder

# Plugins start what belongs to them by name (`kedro mlflow ui` calls `mlflow`): it lies beside this Python,
# which may have been called by its path alone.
_beside = str(Path(sys.executable).parent)
if _beside not in os.environ.get("PATH", "").split(os.pathsep):
    os.environ["PATH"] = os.pathsep.join([_beside, os.environ.get("PATH", os.defpath)])

log_in_lines()

recorder = ProvenanceRecorder()

# Of two that go first, the later one is called first: what is configured is checked before anything is made.
HOOKS = (
    CreateMlflowStore(),
    CheckedConfiguration(),
    OneCorpusPerModel(),
    TrainedCandidate(),
    SharedMlflowRun(),
    UserErrorHook(),
    OnePipelineRun(),
    StopIfUpToDate(recorder),
    recorder,
    RemoteWorkspace(),
)
SESSION_CLASS = IncrementalSession
CONFIG_LOADER_CLASS = OneLineConfigLoader
CONFIG_LOADER_ARGS = LOADER_ARGS
