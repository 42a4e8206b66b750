"""Names that hold before any configuration is read: the MLflow store's address, the registered model's name.

Environment variables come first; what else `conf/` says, `config` knows. Also what to say of a name that
does not exist.
"""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import unquote

from captionloop.errors import ConfigurationError
from captionloop.paths import expanded

SQLITE = "sqlite:///"
SAMPLE_CORPUS = "sample_scenes"
REGISTERED_MODEL = "captioner"
"""The registered model of the sample scenes; that of another corpus is named after it as well."""
STORE_VARIABLES = ("MLFLOW_TRACKING_URI", "CAPTIONLOOP_REGISTRY")
_LISTED = 12


def environment_tracking_uri() -> str | None:
    """What `MLFLOW_TRACKING_URI` or the service's `CAPTIONLOOP_REGISTRY` says, or None."""
    given = {name: expanded(value) for name in STORE_VARIABLES if (value := os.environ.get(name))}
    if len(set(given.values())) > 1:
        raise ConfigurationError(
            f"{' and '.join(given)} name two MLflow stores: unset one of them, or give both the same address"
        )
    return next(iter(given.values()), None)


def environment_registered_model() -> str | None:
    """What `CAPTIONLOOP_REGISTRY_NAME` says, or None."""
    return os.environ.get("CAPTIONLOOP_REGISTRY_NAME") or None


def anchored(uri: str, project: Path) -> str:
    """The same store from wherever it is called: a relative SQLite file lies in the project's folder.

    Raises `ConfigurationError` where no address can name that file.
    """
    if not uri.startswith(SQLITE):
        return uri
    file = str(project.resolve() / uri.removeprefix(SQLITE))
    # SQLAlchemy ends an address at its ?, and MLflow reads an escape where there may be none.
    if "?" in file or unquote(file) != file:
        raise ConfigurationError(
            f"No MLflow store can lie at {file}: no folder on its way may have a ?, or a % before two"
            " hexadecimal digits, in its name; rename it, or set MLFLOW_TRACKING_URI to another place"
        )
    return SQLITE + file


def model_of_corpus(corpus: str) -> str:
    """The registered model of a corpus whose `globals.yml` names none: two corpora share none unasked."""
    return REGISTERED_MODEL if corpus == SAMPLE_CORPUS else f"{REGISTERED_MODEL}_{corpus}"


def how_to_make(model: str) -> str:
    """The command that makes the first version of a registered model."""
    if model == REGISTERED_MODEL:
        return "make demo"
    return "kedro run --env <its environment> --pipelines from_corpus"


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say after "there is no <name>": the nearest known name, or all of them where they are few."""
    names = sorted(set(known))
    close = get_close_matches(name, names, n=1) or get_close_matches(
        name.rpartition(".")[2], names, n=1, cutoff=0.7
    )
    if close:
        return f"did you mean {close[0]}?"
    if 0 < len(names) <= _LISTED:
        return f"there are {', '.join(names)}"
    return "check the spelling"
