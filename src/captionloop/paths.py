"""Expands `~` and `$VARIABLE` at the beginning of paths; settings from environment variables; nearest names.

A shell spells out `~` where it stands at the beginning of a word, and not in `workspace=~/x`, in
`--output=~/x`, in a file, or in a variable that a service manager sets.

Environment variables come first; `config` reads the rest from `conf/`. `nearest` suggests a name for one that
does not exist, `renamed` translates what parameters were called before.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from captionloop.errors import ConfigurationError

_BEFORE: Final = r"(?P<scheme>sqlite:///|file://)?"
_HOME: Final = re.compile(_BEFORE + r"(?P<begin>~[\w.-]*)(?=/|$)(?P<rest>.*)", re.DOTALL)
_VARIABLE: Final = re.compile(_BEFORE + r"(?P<begin>\$\w+|\$\{\w+\})(?P<rest>/.*)", re.DOTALL)
_SOCKET_BYTES: Final = 102
"""How long the path of a Unix socket may be for BentoML; for Linux 107, for macOS 103."""
_SOCKET_NAME: Final = len("/bentoml-uds-12345678/123456789012345.sock")


def expanded(path: str) -> str:
    """A path or URI with the `~`, `~user` or `$VARIABLE` that it begins with spelled out; else as it is.

    Raises:
        ConfigurationError: there is no such user, or the variable is not set.
    """
    found = _HOME.fullmatch(path)
    if found is not None:
        begin, problem = _home_of(found["begin"]), "there is no such user"
    else:
        found = _VARIABLE.fullmatch(path)
        if found is None:
            return path
        begin, problem = os.path.expandvars(found["begin"]), "the variable is not set"
    if begin == found["begin"] or not begin:
        raise ConfigurationError(
            f"The path {path!r} cannot be spelled out: {problem} ({found['begin']}); write the whole path,"
            " or ./ before it where a folder is really called so"
        )
    return f"{found['scheme'] or ''}{begin}{found['rest']}"


def expanded_everywhere(configured: Any) -> Any:
    """The same configuration with every path in it `expanded`, however deep; what is no text stays.

    Raises:
        ConfigurationError: as `expanded`.
    """
    if isinstance(configured, str):
        return expanded(configured)
    if isinstance(configured, dict):
        return {name: expanded_everywhere(value) for name, value in configured.items()}
    if isinstance(configured, list):
        return [expanded_everywhere(value) for value in configured]
    return configured


def home_folder() -> Path:
    """The home folder of whoever runs this.

    Raises:
        ConfigurationError: there is none: a container's user without a name, and no `HOME`.
    """
    try:
        return Path.home()
    except RuntimeError:
        raise ConfigurationError(
            "There is no home folder to keep anything in: set HOME, or CAPTIONLOOP_STATE to a folder"
        ) from None


def make_room_for_sockets() -> None:
    """Puts temporary files into a folder whose path leaves room for a Unix socket, where `TMPDIR` has none.

    BentoML makes its sockets among temporary files, and the system takes no longer paths. Child processes
    follow, through their environment.

    Raises:
        ConfigurationError: no folder can be written to that is short enough.
    """
    if _fits(tempfile.gettempdir()):
        return
    for folder in (os.environ.get("XDG_RUNTIME_DIR"), "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108 - mkdtemp's
        if folder and _fits(folder) and Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK):
            os.environ["TMPDIR"] = tempfile.tempdir = folder
            return
    raise ConfigurationError(
        f"TMPDIR={tempfile.gettempdir()} is too long for the service's sockets, and neither /tmp nor /var/tmp"
        f" can be written to: set TMPDIR to a folder of at most {_SOCKET_BYTES - _SOCKET_NAME} bytes"
    )


def _home_of(user: str) -> str:
    try:
        return str(Path(user).expanduser())
    except RuntimeError:  # as the text stays where a variable is not set
        return user


def _fits(folder: str) -> bool:
    return len(os.fsencode(folder)) + _SOCKET_NAME <= _SOCKET_BYTES


def printable(text: str) -> str:
    """The text; what cannot be written as UTF-8 (of a file's name in another encoding) is spelt out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


SQLITE = "sqlite:///"
SAMPLE_CORPUS = "sample_scenes"
REGISTERED_MODEL = "captioner"
"""The registered model of the sample scenes; that of another corpus is named after it as well."""
STORE_VARIABLES = ("MLFLOW_TRACKING_URI", "CAPTIONLOOP_REGISTRY")
_LISTED = 12


def environment_tracking_uri() -> str | None:
    """The value of `MLFLOW_TRACKING_URI` or of the service's `CAPTIONLOOP_REGISTRY`, or None."""
    given = {name: expanded(value) for name in STORE_VARIABLES if (value := os.environ.get(name))}
    if len(set(given.values())) > 1:
        raise ConfigurationError(
            f"{' and '.join(given)} name two MLflow stores: unset one of them, or give both the same address"
        )
    return next(iter(given.values()), None)


def environment_registered_model() -> str | None:
    """The value of `CAPTIONLOOP_REGISTRY_NAME`, or None."""
    return os.environ.get("CAPTIONLOOP_REGISTRY_NAME") or None


def environment_workspace() -> dict[str, str]:
    """What `CAPTIONLOOP_WORKSPACE` says of `globals: workspace`: where everything lies; empty if nothing."""
    given = os.environ.get("CAPTIONLOOP_WORKSPACE")
    return {"workspace": expanded(given)} if given else {}


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
    """The end of an error "there is no <name>": the nearest known name, or all of them where they are few."""
    names = sorted(set(known))
    close = get_close_matches(name, names, n=1) or get_close_matches(
        name.rpartition(".")[2], names, n=1, cutoff=0.7
    )
    if close:
        return f"did you mean {close[0]}?"
    if 0 < len(names) <= _LISTED:
        return f"there are {', '.join(names)}"
    return "check the spelling"


_ADAPTED = ("encoder_adaptation", "retraining_encoder", "pretrained.tower")
RENAMED: Final[Mapping[str, str]] = {
    "data_validation.likeness": "data_validation.similarity",
    "drift.most": "drift.max_rows",
    "examination_rounds": "label_noise_rounds",
    "feedback.caps": "feedback.rater_limits",
    "feedback.contradiction.likeness": "feedback.contradiction.similarity",
    "feedback.copies": "feedback.repeated_corrections",
    "feedback.copies.likeness": "feedback.repeated_corrections.similarity",
    "feedback.copies.template_likeness": "feedback.repeated_corrections.template_similarity",
    "feedback.wording": "feedback.correction_text",
    "pretrained.average_decay": "pretrained.ema_decay",
    "retraining.average_decay": "retraining.ema_decay",
    "retraining.grounding": "retraining.new_word_strength",
    "retraining.least_replay": "retraining.min_captions",
    "retraining_encoder.examination": "retraining_encoder.label_noise",
    "retraining_encoder.examination.least_photos": "retraining_encoder.label_noise.min_photos",
    "retraining_encoder.examination.most_wrong": "retraining_encoder.label_noise.max_noise_rate",
    "retraining_encoder.examination.parts": "retraining_encoder.label_noise.folds",
    "retraining_encoder.least_photos": "retraining_encoder.min_photos",
    "*.training": "models.*",
    "*.training.average_decay": "models.*.ema_decay",
    **{f"{block}.averaging": f"{block}.ema_decay" for block in _ADAPTED},
    **{f"{block}.norms": f"{block}.batch_norm" for block in _ADAPTED},
    **{f"{block}.norms=fixed": f"{block}.batch_norm=frozen" for block in _ADAPTED},
    **{f"{block}.batch_norm=fixed": f"{block}.batch_norm=frozen" for block in _ADAPTED},
    **{f"{block}.pooling=some": f"{block}.pooling=log_sum_exp" for block in _ADAPTED},
}
"""What parameters, and values of theirs, were called in version 0.1, with what they are called now.

The old names work for one release, with a warning. `*` is any one name, and a name stands for all below it.
"""
_Path = tuple[str, ...]
_FORMER: Final = sorted(
    ((tuple(old.partition("=")[0].split(".")), old.partition("=")[2], new) for old, new in RENAMED.items()),
    key=lambda each: (-len(each[0]), not each[1]),
)
_RUNTIME: Final = {old: new for old, new in RENAMED.items() if "." not in old}


def renamed(parameters: Mapping[str, Any], where: str, warn: Callable[[str], None]) -> dict[str, Any]:
    """Parameters with each former name of `RENAMED` replaced by the present one; `warn` gets a line for each.

    `where` is the place in which they are written, for these lines.

    Raises:
        ConfigurationError: a parameter stands there by its former and by its present name.
    """
    found = [(path, *_present(path, value)) for path, value in _leaves(parameters)]
    lines = dict.fromkeys(line for *_, told in found for line in told)
    if not lines:
        return dict(parameters)
    nested: dict[str, Any] = {}
    taken: dict[_Path, _Path] = {}
    for path, present, value, _ in found:
        for end in range(1, len(present) + 1):
            if present[:end] in taken:
                _refuse_both(where, taken[present[:end]], path, present)
        if any(each[: len(present)] == present for each in taken):
            _refuse_both(where, path, path, present)
        taken[present] = path
        block = nested
        for part in present[:-1]:
            block = block.setdefault(part, {})
        block[present[-1]] = value
    for line in lines:
        warn(f"{line}: change it in {where}")
    return nested


def _refuse_both(where: str, one: _Path, other: _Path, present: _Path) -> None:
    former = ".".join(other if one == present else one)
    raise ConfigurationError(
        f"{where} says both {former} and {'.'.join(present)}, which is what it is called now: leave out the"
        " former"
    )


def _leaves(block: Mapping[str, Any], above: _Path = ()) -> Iterator[tuple[_Path, Any]]:
    for name, value in block.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*above, str(name)))
        else:
            yield (*above, str(name)), value


def _present(path: _Path, value: Any) -> tuple[_Path, Any, list[str]]:
    """Where a value stands now, and what it is; a line for each thing that is called otherwise now."""
    told = []
    for old, now in _RUNTIME.items():
        changed = re.sub(rf"(\$\{{runtime_params:\s*){old}\b", rf"\g<1>{now}", str(value))
        if isinstance(value, str) and changed != value:
            value = changed
            told.append(f"The runtime parameter {old} is called {now} now")
    for former, former_value, new in _FORMER:
        rest = path[len(former) :]
        pairs = list(zip(former, path, strict=False))
        fits = all(part == name or (part == "*" and name != "models") for part, name in pairs)
        if len(path) < len(former) or not fits or (former_value and (rest or value != former_value)):
            continue
        name, _, new_value = new.partition("=")
        wild = next((given for part, given in pairs if part == "*"), "*")
        present = tuple(name.replace("*", wild).split("."))
        was, now = ".".join(path[: len(former)]), ".".join(present)
        if new_value:
            was, now = f"{was}={former_value}", f"{now}={new_value}"
        return (*present, *rest), new_value or value, [*told, f"Parameter {was} is called {now} now"]
    return path, value, told
