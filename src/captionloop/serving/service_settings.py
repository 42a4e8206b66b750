"""Everything about the service that can be set, in one place: environment variables `CAPTIONLOOP_*`.

The defaults make a service for one machine out of nothing. A value that cannot be used stops the service at
its start with one line that names the variable.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from captionloop.config import is_project, project_folder
from captionloop.errors import ConfigurationError
from captionloop.paths import expanded, home_folder, nearest
from captionloop.serving.gateway.http_protocol import PREFIX as PATH_PREFIX
from captionloop.serving.gateway.http_protocol import parsed_trust

PREFIX = "CAPTIONLOOP_"
PACKAGED_MODEL = Path(__file__).resolve().parents[2] / "model"
"""Where a Bento carries its model: beside the package."""
PACKAGED_PAGE = Path(__file__).resolve().parents[2] / "page"
ELSEWHERE = (
    "ACTOR", "AIRFLOW", "BIN", "COMMIT", "DAG_PREFIX", "KEY", "LEAST_RATINGS", "LOCK_SECONDS",
    "MLFLOW_URL", "OWNER", "POD_DEFERRABLE", "POD_IMAGE", "POD_NAMESPACE", "POD_TEMPLATE", "POOL",
    "PROJECT", "PROMETHEUS", "RETRY_SECONDS", "RUN_DAYS", "SCREENSHOTS", "SIGNING_KEY",
    "STARTED_BY_TEST", "STEP_HOURS", "TEACHING_HOURS", "TEST_CONTENTION_SECONDS", "TEST_LOAD_SECONDS",
    "TEST_RATINGS", "URL", "WORKSPACE",
)  # fmt: skip
"""What variables of this prefix other parts of the project read: commands, DAGs, images, tests."""

_OF_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP)(_\w+)?$|_PORT=\w+://")
"""What Kubernetes sets in every pod beside a service that is called captionloop."""

NOT_SET = SecretStr("")
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


def default_state() -> Path:
    """Where the service keeps what it must not forget: in the project if we stand in one,
    else in the home folder.
    """
    project = project_folder()
    if is_project(project):
        return project / "data/service"
    home = expanded(os.environ.get("XDG_STATE_HOME", "")) or str(home_folder() / ".local/state")
    return Path(home) / "captionloop"


class Settings(BaseModel):
    """The service's settings; `CAPTIONLOOP_MAX_PIXELS` sets `max_pixels`, and so on.

    Addresses are `SecretStr`, for each may hold a password: whatever prints the settings does not print them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    state: Path = Field(
        default_factory=default_state, description="folder of the embedded database and photos"
    )
    database: SecretStr = Field(
        NOT_SET, description="ratings database URL; empty: SQLite in the state folder"
    )
    photos: SecretStr = Field(
        NOT_SET, description="photo archive, path or fsspec URI; empty: in the state folder"
    )
    keep: bool = Field(True, description="false: nothing that is sent is kept, whatever the caller says")
    retention_unrated_days: Count = Field(90, description="how long captions that nobody rated are kept")
    retention_rated_days: Count = Field(730, description="how long rated captions are kept")

    gold_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.15, description="of what people are shown to rate are gold items; half before they are known"
    )

    model: str = Field(
        "", description="bundle folder (followed when it is replaced); empty: packaged, or registry"
    )
    registry: SecretStr = Field(
        NOT_SET, description="MLflow tracking URI whose champion is followed; empty: the project's"
    )
    registry_name: str = Field(
        "", description="name of the registered model; empty: the one of the project's corpus, see KEDRO_ENV"
    )
    model_server: SecretStr = Field(
        NOT_SET,
        description="URL of model servers that run apart; empty: one is started beside the gateway",
    )
    follow_seconds: Seconds = Field(5.0, description="how often to look for a new champion")
    trials: bool = Field(
        True,
        description="false: no shadow or canary of the registry is loaded beside the champion; for one, each "
        "process of the model server needs about as much memory again",
    )
    trust_store: Path | None = Field(
        None,
        description="public keys (a folder, or a file): only models that one of them signed are loaded and "
        "promoted; empty: all are",
    )
    max_batch: Annotated[int, Field(ge=2, le=256)] = Field(16, description="photos captioned at once")
    model_streams: Annotated[int, Field(ge=0, le=64)] = Field(
        0, description="batches captioned at once, each on its share of the cores; 0: one a core, at most 4"
    )
    model_workers: Count = Field(1, description="processes of the model server")
    gateway_workers: Count = Field(1, description="processes of the gateway")

    anonymous: bool = Field(True, description="may people without a key caption and rate")
    anonymous_captions_per_minute: Count = Field(60, description="captions a minute for one address")
    key_captions_per_minute: Count = Field(600, description="captions a minute for one key")
    rate_limit_storage: SecretStr = Field(
        SecretStr("async+memory://"), description="where limits are counted (limits' URI)"
    )
    trusted_proxies: str = Field(
        "0",
        description="proxies whose X-Forwarded-For, -Proto, -Host and -Prefix are believed: "
        "addresses and networks, or how many stand before the gateway",
    )
    root_path: str = Field(
        "", pattern=rf"^({PATH_PREFIX.pattern})?$", description="path before ours, where no proxy says it"
    )
    cors_origins: str = Field(
        "",
        pattern=r"^(\*|https?://[^\s/,*]+(\s*,\s*https?://[^\s/,*]+)*)?$",
        description="origins whose pages may call the API with a key: "
        "`https://a.example, https://b.example`, or `*`; empty: none but ours",
    )

    max_body_bytes: Count = Field(10_000_000, description="largest photo in bytes")
    max_pixels: Count = Field(64_000_000, description="largest photo in pixels")
    upload_seconds: Seconds = Field(20.0, description="within which a body must have arrived")
    upload_bytes_per_second: Count = Field(8192, description="a body that comes slower is refused after 5 s")
    upload_memory_bytes: Count = Field(256_000_000, description="memory for bodies under way, all together")
    captions_at_once: Count = Field(64, description="captions under way; more are told to come again")
    captions_at_once_per_caller: Annotated[int, Field(ge=0)] = Field(
        0, description="uploads and captions under way for one address or key; 0: half of all"
    )
    caption_seconds: Seconds = Field(20.0, description="within which the model must have answered")
    decode_threads: Count = Field(2, description="photos decoded at once")

    page: Path | None = Field(
        None, description="folder of the built web page; empty: packaged, or frontend/dist"
    )
    drain_seconds: Seconds = Field(1.0, description="from 'not ready' to 'no new connections' when stopping")
    stop_seconds: Seconds = Field(10.0, description="within which requests under way must end when stopping")
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0, description="where a model server that runs apart shows its metrics; 0: nowhere"
    )
    drift_report: SecretStr = Field(
        NOT_SET,
        description="drift.json to show as metrics, path or fsspec URI; empty: the project's newest",
    )
    audit_log: Path | None = Field(
        None,
        description="file to which commands add what administrators do; empty: audit.log in the state folder",
    )
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="of the JSON log")

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _known_proxies(cls, given: object) -> str:
        parsed_trust(str(given))
        return str(given)

    @field_validator("trust_store")
    @classmethod
    def _usable_keys(cls, given: Path | None) -> Path | None:
        """Told at the start, not when the next model is to be loaded."""
        if given is not None:
            from captionloop.registry.signing import trusted_keys

            trusted_keys(given)
        return given

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the variables that are set (an empty one counts as not set).

        Raises:
            ConfigurationError: one has a value that cannot be used.
        """
        given = os.environ if environment is None else environment
        known = {name: expanded(given.get(PREFIX + name.upper(), "")) for name in cls.model_fields}
        try:
            return cls.model_validate({name: value for name, value in known.items() if value != ""})
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            name = str(first["loc"][0])
            secret = cls.model_fields[name].annotation is SecretStr
            given_as = "" if secret else f"={known[name]!r}"
            raise ConfigurationError(
                f"{PREFIX}{name.upper()}{given_as} cannot be used: {first['msg']}"
            ) from None

    @classmethod
    def misspelt(cls, environment: Mapping[str, str] | None = None) -> list[str]:
        """A line for each variable of our prefix that nothing reads, with the nearest known name."""
        given = os.environ if environment is None else environment
        known = {PREFIX + name.upper() for name in cls.model_fields} | {PREFIX + name for name in ELSEWHERE}
        unknown = sorted(
            name
            for name, value in given.items()
            if name.startswith(PREFIX)
            and name not in known
            and not _OF_KUBERNETES.search(name)
            and not _OF_KUBERNETES.search(f"{name}={value}")
        )
        return [f"Nothing reads {name}: {nearest(name, known)}" for name in unknown]

    @property
    def database_url(self) -> str:
        """The ratings database."""
        return self.database.get_secret_value() or f"sqlite:///{self.state.absolute()}/ratings.db"

    @property
    def allowed_origins(self) -> list[str]:
        """Of which other origins pages may call the API."""
        return [origin.strip() for origin in self.cors_origins.split(",") if origin.strip()]

    @property
    def photo_root(self) -> str:
        """The photo archive."""
        return self.photos.get_secret_value() or str(self.state.absolute() / "photos")

    @property
    def embedded_database(self) -> bool:
        """Whether the schema may be brought up to date without asking:
        only where the database is ours alone.
        """
        return self.database_url.startswith("sqlite")

    @property
    def has_database(self) -> bool:
        """Whether there is a ratings database, told without asking it: looking makes none."""
        from captionloop.ratings.database import normalise_url, sqlite_file

        file = sqlite_file(normalise_url(self.database_url))
        return file is None or Path(file).is_file()

    @property
    def page_folder(self) -> Path | None:
        """The built web page, where there is one. Raises `ConfigurationError` where what is set is none."""
        if self.page is not None and not (self.page / "index.html").is_file():
            raise ConfigurationError(
                f"CAPTIONLOOP_PAGE={str(self.page)!r} holds no index.html: name the folder of a built page"
            )
        for folder in (self.page, PACKAGED_PAGE, Path("frontend/dist")):
            if folder is not None and (folder / "index.html").is_file():
                return folder.absolute()
        return None


def describe_settings() -> str:
    """The settings as a Markdown table, for the documentation."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        plain = field.default
        if isinstance(plain, SecretStr):
            plain = plain.get_secret_value()
        default = "" if field.default_factory or plain in {None, ""} else f"`{plain}`"
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)
