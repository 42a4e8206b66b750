"""Where the project is, and the facts that its configuration settles: the MLflow store, the registered model.

Whoever needs one of them asks here: `kedro run`, the `captionloop` command, the service and Airflow's steps
then agree. Kedro is imported only where a project's configuration is read: a packaged service has none.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionloop.errors import ConfigurationError, RegistryError
from captionloop.paths import (
    REGISTERED_MODEL,
    SAMPLE_CORPUS,
    anchored,
    environment_registered_model,
    environment_tracking_uri,
    expanded,
    nearest,
)

if TYPE_CHECKING:
    from captionloop.conf_loader import ProjectConfigLoader


def project_folder(start: Path | None = None) -> Path:
    """The project that the current folder lies in, else the current folder itself.

    `CAPTIONLOOP_PROJECT` overrides. Raises `ConfigurationError` where it names no folder.
    """
    given = os.environ.get("CAPTIONLOOP_PROJECT")
    if given:
        folder = Path(expanded(given)).resolve()
        if not folder.is_dir():
            raise ConfigurationError(f"CAPTIONLOOP_PROJECT={given!r} is no folder: correct it or unset it")
        return folder
    here = (start or Path.cwd()).resolve()
    return next((folder for folder in (here, *here.parents) if is_project(folder)), here)


def is_project(folder: Path) -> bool:
    """Whether a folder holds a project's configuration."""
    return (folder / "conf/base").is_dir()


def read_configuration(
    project: Path, env: str | None = None, parameters: Mapping[str, Any] | None = None
) -> "ProjectConfigLoader":
    """The project's configuration, read as `kedro run --env <env> --params <parameters>` reads it.

    `env` is by default `KEDRO_ENV`, else `local`. Raises `ConfigurationError` for an unknown one.
    """
    try:
        from captionloop.conf_loader import LOADER_ARGS, ProjectConfigLoader
    except ModuleNotFoundError as error:  # a packaged service that was started inside a project's folder
        raise ConfigurationError(
            f"{project / 'conf'} cannot be read without {error.name}: "
            "set CAPTIONLOOP_REGISTRY and CAPTIONLOOP_REGISTRY_NAME"
        ) from error
    return ProjectConfigLoader(
        str(project / "conf"),
        env=env or os.environ.get("KEDRO_ENV") or None,
        runtime_params=dict(parameters or {}),
        **LOADER_ARGS,
    )


def tracking_uri(project: Path, env: str | None = None) -> str:
    """The MLflow store of a project: what the environment says, else `mlflow.yml`.

    Raises `RegistryError` where neither says, `ConfigurationError` where two variables name two stores.
    """
    found = environment_tracking_uri()
    if found is None and is_project(project):
        found = read_configuration(project, env).tracking_uri()
    if found is None:
        raise RegistryError(
            f"No MLflow store is configured in {project / 'conf'}: "
            "run the command inside the project's folder, or set MLFLOW_TRACKING_URI"
        )
    return anchored(found, project)


def environments(project: Path) -> list[str]:
    """The Kedro environments of a project, `base` first; `local` is how `base` is changed on one machine."""
    folders = (each.name for each in (project / "conf").glob("[!.]*") if each.is_dir())
    return ["base", *sorted(set(folders) - {"base", "local"})]


def environment_of(corpus: str, project: Path) -> str | None:
    """The environment that is about a corpus; None for the one that is used when none is named.

    Raises `ConfigurationError` where there is none.
    """
    known: dict[str, str | None] = {}
    for env in (None, *environments(project)):
        known.setdefault(corpus_of(project, env), env)
    if corpus not in known:
        raise ConfigurationError(
            f"No environment in {project / 'conf'} is about the corpus {corpus}: {nearest(corpus, known)}"
        )
    return known[corpus]


def corpus_of(project: Path, env: str | None = None) -> str:
    """The corpus that an environment is about."""
    return str(read_configuration(project, env)["globals"].get("corpus", SAMPLE_CORPUS))


def registered_model(project: Path, env: str | None = None) -> str:
    """The name under which the environment's models are registered: `CAPTIONLOOP_REGISTRY_NAME`, else as
    `globals.yml` says.
    """
    given = environment_registered_model()
    if given is not None:
        return given
    if not is_project(project):
        return REGISTERED_MODEL
    return str(read_configuration(project, env)["globals"]["registered_model"])
