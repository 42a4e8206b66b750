"""The registered captioner: versions, aliases, promotion and rollback, kept in MLflow.

Every step can be repeated: a process that was killed anywhere in here is started again and ends in the
same state. A version is created last, in one transaction with all its tags, so a version that exists is
complete.

A retrained version descends from one that was taught by the corpus alone. Every retraining begins there,
with all the ratings there are: teaching generation upon generation would learn the early ratings by heart,
and what people have erased would live on in the weights.
"""

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionloop.errors import ConfigurationError, RegistryError
from captionloop.paths import how_to_make
from captionloop.registry import history, model_version, promotion, tracking
from captionloop.registry.history import HistoryEntry, champions, completed
from captionloop.registry.model_version import ModelVersion, checksums, damaged_files, fingerprint
from captionloop.registry.signing import SIGNATURE, SIGNING_KEY, Signing
from captionloop.registry.trials import ROLES, Trial, current

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from captionloop.registry.gate import GateDecision

logger = logging.getLogger(__name__)

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"
_RECORDED_SEPARATELY = {"promoted", "reason"}


class ModelRegistry:
    """The versions of one registered model in an MLflow store.

    `champion` is what is served, `challenger` the newest candidate, `previous` the champion that a
    rollback returns to. New artifacts go to the MLflow run `run_id`, or, without one, to a run of their
    own in `experiment`. All its versions are of one corpus: `corpus`, where that is
    given. What is registered is signed, and what is promoted or fetched must be, as `signing` says: by
    default the environment. Every method raises `RegistryError` where the store cannot be reached.
    """

    def __init__(  # noqa: PLR0917 - where it is, what of it, and how
        self,
        tracking_uri: str,
        name: str = "captioner",
        experiment: str = "captionloop",
        run_id: str | None = None,
        corpus: str | None = None,
        signing: Signing | None = None,
    ) -> None:
        self.tracking_uri = tracking_uri
        self.name = name
        self.experiment = experiment
        self.run_id = run_id
        self.corpus = corpus
        self.signing = signing or Signing.from_environment()

    def versions(self) -> list[ModelVersion]:
        """All versions, the newest first."""
        if not tracking.exists(self.tracking_uri):
            return []
        with tracking.readable_errors(f"list the versions of {self.name}"):
            found = self._client.search_model_versions(f"name='{self.name}'", max_results=10_000)
            # Found by search, versions do not know their aliases: these come with the model itself.
            aliases = self._client.get_registered_model(self.name).aliases if found else {}
        versions = [_with_aliases(ModelVersion.from_mlflow(each), aliases) for each in found]
        return sorted(versions, key=lambda version: version.version, reverse=True)

    def version(self, version_or_alias: int | str) -> ModelVersion:
        """One version by its number (`3`, `"3"`, `"v3"`) or alias.

        Raises `RegistryError` where there is none.
        """
        wanted = str(version_or_alias)
        number = wanted.removeprefix("v")
        versions = self.versions()
        for version in versions:
            if wanted in version.aliases or (number.isdecimal() and int(number) == version.version):
                return version
        known = ", ".join(str(version.version) for version in versions)
        raise RegistryError(
            f"There is no {self.name} {wanted} in the registry: "
            + (
                f"the versions are {known}, see captionloop models list"
                if known
                else f"no model is registered yet; make one with {how_to_make(self.name)}"
            )
        )

    def champion(self) -> ModelVersion | None:
        """The version that is served, or None where nothing was promoted yet."""
        return self._with_alias(CHAMPION)

    def challenger(self) -> ModelVersion | None:
        """The newest candidate, promoted or not, or None in an empty registry."""
        return self._with_alias(CHALLENGER)

    def trial(self) -> Trial | None:
        """The version that is tried beside the champion, or None. Model servers ask every few seconds."""
        on_trial = [version for version in map(self._with_alias, ROLES) if version is not None]
        champion = self.champion() if on_trial else None
        return current([*on_trial, *([champion] if champion else [])])

    def previous(self) -> ModelVersion | None:
        """The champion that a rollback returns to, or None."""
        versions = self.versions()
        champion = next((version for version in versions if version.is_champion), None)
        if champion is None:
            return None
        known = {version.version: version for version in versions}
        before = champions(completed(self._entries(), versions)).before(champion.version, known)
        return None if before is None else known[before]

    def refuse_other_corpus(self) -> None:
        """Raises `RegistryError` where the champion is of another corpus than this registry is for.

        Two corpora in one registered model would meet at the gate, and one be served in the other's place.
        """
        champion = self.champion() if self.corpus else None
        corpus = champion.lineage.get("corpus") if champion else None
        if champion is None or corpus is None or corpus == self.corpus:
            return
        raise RegistryError(
            f"{self.name} version {champion.version} is of the corpus {corpus}, not {self.corpus}: "
            f"give the environment of {self.corpus} a registered_model of its own in its globals.yml"
        )

    def with_fingerprint(self, wanted: str) -> ModelVersion | None:
        """The version that holds this very model, or None."""
        same = [version for version in self.versions() if version.fingerprint == wanted]
        return same[-1] if same else None

    def register(
        self,
        bundle: Path,
        *,
        evidence: Path | None = None,
        metrics: Mapping[str, float] | None = None,
        lineage: Mapping[str, Any] | None = None,
    ) -> ModelVersion:
        """Makes the bundle a version and the challenger; the same model again gives the version it already
        has.

        `evidence` is a folder kept beside the bundle: what it captioned, for later comparisons. The
        artifacts go to the registry's MLflow run, or to a run of their own. Raises `BundleError` where
        `bundle` is not a bundle, or a damaged one; `RegistryError` where the champion is of another corpus.
        """
        self.refuse_other_corpus()
        bundle_fingerprint = fingerprint(bundle)
        version = self.with_fingerprint(bundle_fingerprint)
        if version is None:
            known = {"corpus": self.corpus} if self.corpus else {}
            tags = model_version.description_tags(metrics or {}, {**(lineage or {}), **known})
            version = self._create(bundle, bundle_fingerprint, tags, evidence)
            logger.info("Registered %s version %d", self.name, version.version)
            self.note(
                HistoryEntry(
                    action="register",
                    version=version.version,
                    evidence={
                        "fingerprint": bundle_fingerprint,
                        "run": version.run_id,
                        **_short(metrics or {}),
                    },
                )
            )
        self._set_alias(CHALLENGER, version.version)
        return self.version(version.version)

    def record_decision(self, version: int, decision: "GateDecision", report: str) -> ModelVersion:
        """Writes the gate's decision on the version: as tags, and as `gate.json` and `gate.md`."""
        before = self.version(version)
        folder = f"{before.artifacts}/{model_version.GATE_FOLDER}"
        with tracking.readable_errors(f"write the gate's decision on {self.name} version {version}"):
            self._client.log_text(before.run_id, decision.model_dump_json(indent=2), f"{folder}/gate.json")
            self._client.log_text(before.run_id, report, f"{folder}/gate.md")
            for key, value in model_version.decision_tags(decision).items():
                self._tag(version, key, value)
        after = self.version(version)
        if (after.gate, after.passed_gate) != (before.gate, before.passed_gate):  # not the same once more
            self.note(
                HistoryEntry(
                    action="pass" if decision.promoted else "refuse",
                    version=version,
                    why=decision.reason,
                    evidence={
                        key: value for key, value in after.gate.items() if key not in _RECORDED_SEPARATELY
                    },
                )
            )
        return after

    def promote(self, version: int | str, *, check_files: bool = False, why: str = "") -> ModelVersion:
        """Makes a version the champion and remembers which one it replaced.

        Promoting the champion changes nothing. Raises `RegistryError`, and changes nothing, where files were
        to be checked and are damaged, or where signatures are asked for and its own is not a trusted one.
        """
        return promotion.promote(self, version, check_files=check_files, why=why)

    def promote_gated(self, version: int | str, *, check_files: bool = True) -> ModelVersion:
        """Makes a version the champion only if the gate passed it against the very champion it would replace,
        and its artifacts are still the ones that were registered.

        Raises `RegistryError` with the reason otherwise, and then changes nothing.
        """
        return promotion.promote_gated(self, version, check_files=check_files)

    def rollback(
        self, *, check_files: bool = False, only_from: int | None = None, blame: bool = True, why: str = ""
    ) -> ModelVersion:
        """Gives the champion's place back to the newest earlier champion that was not itself taken back, and
        returns that one.

        The version that is left stays registered, marked as rolled back; without `blame` it is not marked,
        and may be promoted again by the gate's decision. Raises `RegistryError`, and changes nothing, where
        `only_from` is given and not the champion, where there is nothing to go back to, or where that may not
        be promoted, as for `promote`.
        """
        return promotion.rollback(self, check_files=check_files, only_from=only_from, blame=blame, why=why)

    def history(self) -> list[HistoryEntry]:
        """What was done to the versions, in order; of older ones, what their tags tell."""
        versions = self.versions()
        return completed(self._entries(), versions) if versions else []

    def note(self, line: HistoryEntry) -> HistoryEntry:
        """Adds a line to the history, with the time and who acts."""
        with tracking.readable_errors(f"write into the history of {self.name}"):
            return history.append(self._client, self.name, line)

    def fetch(self, version_or_alias: int | str, folder: Path) -> Path:
        """Copies a version's bundle to `folder`, checked file by file, and returns the folder.

        A folder that already holds this bundle is left as it is; a download that was cut off leaves none.
        Raises `RegistryError` where the version is unknown, or its artifacts are missing or damaged;
        `SignatureError` where it must be signed by a trusted key and is not.
        """
        version = self.version(version_or_alias)
        if damaged_files(folder, version.checksums):
            model_version.download_bundle(self._client, version, folder, self.signing)
        else:
            model_version.check_signature(self._client, version, folder, self.signing)
        return folder

    def sign(self, version_or_alias: int | str) -> tuple[ModelVersion, str]:
        """Signs a version as it lies in the registry, in place of the signature it may have: the version, and
        the id of the key.

        It is for whoever knows where the version came from: one from before there were keys, or whose key
        shall count no more. Raises `RegistryError` where its artifacts are missing or damaged,
        `ConfigurationError` where there is no key.
        """
        version = self.version(version_or_alias)
        with tempfile.TemporaryDirectory() as scratch:
            bundle, signature = Path(scratch) / "bundle", Path(scratch) / SIGNATURE
            model_version.download_bundle(self._client, version, bundle, Signing())
            key = self.signing.sign(bundle, signature)
            if key is None:
                raise ConfigurationError(f"There is no key to sign with: set {SIGNING_KEY} to its file")
            with tracking.readable_errors(f"sign {self.name} version {version.version}"):
                self._client.log_artifact(version.run_id, str(signature), version.artifacts)
        self.note(HistoryEntry(action="sign", version=version.version, evidence={"key": key.key_id}))
        return version, key.key_id

    def check_files(self, version_or_alias: int | str) -> None:
        """Raises `RegistryError` where a version's artifacts are missing, damaged, or not signed as asked."""
        with tempfile.TemporaryDirectory() as scratch:
            self.fetch(version_or_alias, Path(scratch) / "bundle")

    def fetch_evidence(self, version_or_alias: int | str, folder: Path) -> Path | None:
        """Copies to `folder` what was kept beside a version's bundle; None where there is nothing."""
        version = self.version(version_or_alias)
        try:
            return folder if model_version.download_evidence(self._client, version, folder) else None
        except RegistryError as error:
            logger.warning("%s", error)
            return None

    @cached_property
    def _client(self) -> "MlflowClient":
        return tracking.connect(self.tracking_uri)

    def newest(self) -> ModelVersion | None:
        """The version that was registered last, or None in an empty registry."""
        if not tracking.exists(self.tracking_uri):
            return None
        with tracking.readable_errors(f"ask for the newest version of {self.name}"):
            return model_version.newest(self._client, self.name)

    def _with_alias(self, alias: str) -> ModelVersion | None:
        if not tracking.exists(self.tracking_uri):
            return None
        with tracking.readable_errors(f"ask for the {alias} of {self.name}"):
            return model_version.with_alias(self._client, self.name, alias)

    def _create(
        self,
        bundle: Path,
        bundle_fingerprint: str,
        description: Mapping[str, str],
        evidence: Path | None,
    ) -> ModelVersion:
        folder = f"{self.name}/{bundle_fingerprint[:12]}"
        tags = {
            model_version.FINGERPRINT: bundle_fingerprint,
            model_version.CHECKSUMS: json.dumps(checksums(bundle)),
            model_version.ARTIFACTS: folder,
            **description,
        }
        with tracking.readable_errors(f"register {bundle} as a version of {self.name}"):
            client = self._client
            run = client.get_run(self.run_id) if self.run_id else self._own_run(bundle_fingerprint)
            with tempfile.TemporaryDirectory() as scratch:
                signature = Path(scratch) / SIGNATURE
                if self.signing.sign(bundle, signature) is not None:  # as it is here, before it leaves
                    client.log_artifact(run.info.run_id, str(signature), folder)
            client.log_artifacts(run.info.run_id, str(bundle), f"{folder}/{model_version.BUNDLE}")
            if evidence is not None:
                client.log_artifacts(run.info.run_id, str(evidence), f"{folder}/{model_version.EVIDENCE}")
            self._ensure_model()
            source = f"{run.info.artifact_uri}/{folder}/{model_version.BUNDLE}"
            created = client.create_model_version(self.name, source, run.info.run_id, tags=tags)
            if self.run_id is None:
                client.set_terminated(run.info.run_id)
        return ModelVersion.from_mlflow(created)

    def _own_run(self, bundle_fingerprint: str) -> Any:
        """The run that holds this model's artifacts: the one begun before a crash, else a new one."""
        client = self._client
        found = client.get_experiment_by_name(self.experiment)
        experiment = found.experiment_id if found else client.create_experiment(self.experiment)
        runs = client.search_runs(
            [experiment], f"tags.`{model_version.FINGERPRINT}` = '{bundle_fingerprint}'", max_results=1
        )
        if runs:
            return runs[0]
        return client.create_run(
            experiment,
            run_name=f"register {bundle_fingerprint[:12]}",
            tags={model_version.FINGERPRINT: bundle_fingerprint},
        )

    def _ensure_model(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _tag(self, version: int, key: str, value: str) -> None:
        self._client.set_model_version_tag(self.name, str(version), key, value)

    def _set_alias(self, alias: str, version: int) -> None:
        with tracking.readable_errors(f"make version {version} of {self.name} the {alias}"):
            self._client.set_registered_model_alias(self.name, alias, str(version))

    def _entries(self) -> list[HistoryEntry]:
        with tracking.readable_errors(f"read the history of {self.name}"):
            return history.read(self._client, self.name)


def _short(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in metrics.items()}


def _with_aliases(version: ModelVersion, aliases: Mapping[str, Any]) -> ModelVersion:
    names = tuple(sorted(alias for alias, number in aliases.items() if int(number) == version.version))
    return replace(version, aliases=names)


def base_captioner(version: ModelVersion, registry: ModelRegistry) -> ModelVersion:
    """The version itself, or the one that it was retrained from.

    Raises:
        RegistryError: that one is not in the registry any more.
    """
    seen = {version.version}
    while version.learnt_until and version.lineage.get("parent_version"):
        version = registry.version(version.lineage["parent_version"])
        if version.version in seen:  # written by hand, for nobody is one's own ancestor
            break
        seen.add(version.version)
    return version
