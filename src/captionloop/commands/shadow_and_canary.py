"""`captionloop models shadow` and `canary`: try a version beside the champion, look how it does, decide."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from captionloop.commands.model_lookup import open_registry
from captionloop.commands.option_types import SERVICE_KEY, SERVICE_URL
from captionloop.config import project_folder, read_configuration
from captionloop.errors import RegistryError
from captionloop.languages import language_of

if TYPE_CHECKING:
    from captionloop.registry.canary_judgement import Advice, CanaryAssessment, RatingComparison
    from captionloop.registry.model_registry import ModelRegistry
    from captionloop.registry.trials import Role, Trial
    from captionloop.serving.schemas import TrialBody

GOOD, WORSE, NOTHING_SHOWN, NOT_YET = 0, 3, 4, 75
"""Exit codes of `--status` and `--decide`; 1 is an error, as everywhere."""
FAILED_SHARE, FEWEST_FAILURES = 0.01, 3
LOADING = timedelta(minutes=10)
"""After which a shadow should run on some model server."""
OUTCOMES = {"promote": "better", "roll back": "worse", "stop": "no difference shown"}

ENV = click.option("--env", help="Kedro environment whose mlflow.yml names the registry.")
JSON = click.option("--json", "as_json", is_flag=True, help="With --status: print JSON.")
WHY = click.option("--why", default="", help="A sentence for the history: captionloop models history.")
STOP = click.option("--stop", is_flag=True, help="End it (with VERSION, only if it is that one).")


@click.command()
@click.argument("version", required=False)
@click.option(
    "--share",
    default=0.2,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Of the photos that people send.",
)
@click.option(
    "--photos", default=100, show_default=True, type=click.IntRange(1), help="How many tell enough."
)
@click.option(
    "--days", default=1.0, show_default=True, type=click.FloatRange(0, 365, min_open=True),
    help="After which it ends, whatever was captioned.",
)  # fmt: skip
@STOP
@click.option("--status", is_flag=True, help="Say how it does: asks the service at --url.")
@SERVICE_URL
@SERVICE_KEY
@JSON
@WHY
@ENV
def shadow(  # noqa: PLR0917
    version: str | None,
    share: float,
    photos: int,
    days: float,
    stop: bool,
    status: bool,
    url: str,
    key: str | None,
    as_json: bool,
    why: str,
    env: str | None,
) -> None:
    """Let VERSION caption a share of the photos once more, after they were answered; nobody sees it.

    With --status the exit code is 0 where it captioned enough photos, 3 where it fails or cannot be loaded, 4
    where its time was over before, 75 where there is no telling yet.
    """
    from captionloop.client import CaptionClient

    registry = open_registry(project_folder(), env)
    if stop:
        _stop(registry, "shadow", version, why)
    elif status:
        trial = _running(registry, "shadow", version)
        with CaptionClient(url, key=key, attempts=1) as service:
            servers = service.model().servers or []
        trials = [each.trial for each in servers if each.trial is not None]
        code, sentence = assess_shadow(trial, trials, datetime.now(UTC))
        counts = _counts(_of(trial, trials))
        click.echo(json.dumps({**_plan(trial), **counts, "sentence": sentence}) if as_json else sentence)
        sys.exit(code)
    else:
        _begin(registry, version, "shadow", share, photos, days, why)


@click.command()
@click.argument("version", required=False)
@click.option(
    "--share",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 0.5, min_open=True),
    help="Of the people. With one half the fewest ratings tell enough.",
)
@click.option(
    "--ratings",
    type=click.IntRange(20),
    help="How many it lasts at most. [default: as many as tell as much as 400 at a share of one half]",
)
@click.option(
    "--days", default=14.0, show_default=True, type=click.FloatRange(0, 365, min_open=True),
    help="After which it ends, whatever was rated.",
)  # fmt: skip
@STOP
@click.option("--status", is_flag=True, help="Say what people's ratings show so far.")
@click.option("--decide", is_flag=True, help="Act upon that: promote it, take it back, or end the canary.")
@JSON
@WHY
@ENV
def canary(  # noqa: PLR0917
    version: str | None,
    share: float,
    ratings: int | None,
    days: float,
    stop: bool,
    status: bool,
    decide: bool,
    as_json: bool,
    why: str,
    env: str | None,
) -> None:
    """Let VERSION answer a share of the people: the same ones each time, chosen by a hash.

    With --status and --decide the exit code is 0 where people like it better, 3 where they like it less, 4
    where it ended without a difference, 75 where there is no telling yet. It may be looked at after every
    rating. --decide promotes only what the gate passed.
    """
    from captionloop.registry.trials import ratings_needed

    registry = open_registry(project_folder(), env)
    if stop:
        _stop(registry, "canary", version, why)
    elif status or decide:
        ended = _ended_before(registry, version, decide=decide)
        if ended is not None:
            sys.exit(ended)
        _assess_canary(
            registry, _running(registry, "canary", version), decide=decide, as_json=as_json, env=env
        )
    else:
        _begin(registry, version, "canary", share, ratings or ratings_needed(share), days, why)


def assess_shadow(trial: "Trial", trials: "Sequence[TrialBody]", now: datetime) -> tuple[int, str]:
    """The exit code and a sentence about the shadow, from the model servers' trial counts."""
    label = f"Version {trial.version.version} as a shadow"
    own = _of(trial, trials)
    counts = _counts(own)
    captioned, failed = counts["captioned"], counts["failed"]
    troubles = [each.reason for each in own if not each.ready and each.reason]
    summary = f"{captioned} photos captioned, {counts['agreed']} as by the champion, {failed} failed, "
    summary += f"{counts['dropped']} left out"
    if failed >= FEWEST_FAILURES and failed > FAILED_SHARE * (failed + captioned):
        return WORSE, f"{label} fails: {summary}"
    if captioned >= trial.plan.most:
        return GOOD, f"{label} does well: {summary}"
    if not any(each.ready for each in own) and now > trial.plan.began + LOADING:
        return WORSE, f"{label} runs on no model server: {troubles[0] if troubles else 'none tells of it'}"
    if trial.plan.is_over(now):
        return NOTHING_SHOWN, f"{label} is over: {summary}, of {trial.plan.most} that were planned"
    return NOT_YET, f"{label}: {summary}, {trial.plan.most} needed"


def _of(trial: "Trial", trials: "Sequence[TrialBody]") -> "list[TrialBody]":
    wanted = (trial.plan.role, str(trial.version.version))
    return [each for each in trials if (each.role, each.version) == wanted]


def _counts(own: "Sequence[TrialBody]") -> dict[str, int]:
    return {
        name: sum(getattr(each, name) for each in own)
        for name in ("captioned", "agreed", "failed", "dropped")
    }


def _assess_canary(
    registry: "ModelRegistry", trial: "Trial", *, decide: bool, as_json: bool, env: str | None
) -> None:
    from captionloop.ratings.reader import RatingsDatabase
    from captionloop.registry.canary_judgement import assess_canary, read_evidence
    from captionloop.serving.service_settings import Settings

    evidence = read_evidence(RatingsDatabase(Settings.from_environment().database_url), trial)
    language = read_configuration(project_folder(), env)["parameters"].get("language", "en")
    assessment = assess_canary(trial, evidence, datetime.now(UTC), language_of(language))
    if as_json:
        click.echo(json.dumps(_as_json(trial, assessment), indent=2))
    else:
        for line in _lines(trial, assessment):
            click.echo(line)
    if decide:
        _apply(registry, trial, assessment)
    sys.exit(_code(assessment.advice))


def _code(advice: "Advice") -> int:
    return {"promote": GOOD, "roll back": WORSE, "stop": NOTHING_SHOWN, "extend": NOT_YET}[advice]


def _apply(registry: "ModelRegistry", trial: "Trial", assessment: "CanaryAssessment") -> None:
    """Ends the canary, if it is decided, and brings the version into service where people like it better."""
    from captionloop.registry.promotion import end_trial, refuse_ungated
    from captionloop.serving.logs import by_command

    number = trial.version.version
    if assessment.advice == "extend":
        return
    with by_command("models.canary", f"{registry.name} {number}"):
        if assessment.advice == "promote":
            refuse_ungated(registry.version(number), registry.champion())
        blame = assessment.advice == "roll back"
        end_trial(
            registry, "canary", OUTCOMES[assessment.advice], why=assessment.reason, only=number, blame=blame
        )
        if assessment.advice == "promote":
            registry.promote_gated(number)
    click.echo(
        f"Version {number} is now the champion."
        if assessment.advice == "promote"
        else f"The canary is ended: version {trial.plan.champion} answers everybody."
    )


def _ended_before(registry: "ModelRegistry", version: str | None, *, decide: bool) -> int | None:
    """The exit code of what came of it where VERSION is no canary any more, so that a program can repeat
    itself; None where it still is one.
    """
    if version is None:
        return None
    model_version = registry.version(version)
    trial = registry.trial()
    if trial is not None and (trial.plan.role, trial.version.version) == ("canary", model_version.version):
        return None
    ends = [
        entry
        for entry in registry.history()
        if entry.action == "end" and entry.version == model_version.version
    ]
    ends = [entry for entry in ends if entry.evidence.get("role") == "canary"]
    if not ends:
        return None
    result = ends[-1].outcome
    if result == OUTCOMES["promote"] and decide and not model_version.is_champion:
        registry.promote_gated(model_version.version)  # it was cut off there
    click.echo(f"The canary of version {model_version.version} has ended: {result}. {ends[-1].why}".rstrip())
    if model_version.is_champion or result == OUTCOMES["promote"]:
        return GOOD
    return WORSE if result == OUTCOMES["roll back"] else NOTHING_SHOWN


def _running(registry: "ModelRegistry", role: "Role", version: str | None) -> "Trial":
    """The trial of that role. Raises `RegistryError` where there is none, or not of that version."""
    trial = registry.trial()
    if trial is None or trial.plan.role != role:
        raise RegistryError(f"There is no {role}: begin with captionloop models {role} VERSION")
    if version is not None and registry.version(version).version != trial.version.version:
        raise RegistryError(f"Version {version} is not the {role}, version {trial.version.version} is")
    return trial


def _begin(  # noqa: PLR0917
    registry: "ModelRegistry",
    version: str | None,
    role: "Role",
    share: float,
    most: int,
    days: float,
    why: str,
) -> None:
    from captionloop.registry.promotion import begin_trial
    from captionloop.serving.logs import by_command

    if version is None:
        raise click.UsageError(f"Which VERSION shall be the {role}? (Or --status, or --stop.)")
    with by_command(f"models.{role}", f"{registry.name} {version}"):
        trial = begin_trial(registry, version, role, share, most=most, days=days, why=why)
    click.echo(_headline(trial))
    if role == "canary" and trial.version.passed_gate is not True:
        click.echo("The gate has not passed it: --decide will not promote it.", err=True)
    click.echo(f"How it does: captionloop models {role} --status. Its end: captionloop models {role} --stop")


def _stop(registry: "ModelRegistry", role: "Role", version: str | None, why: str) -> None:
    from captionloop.registry.promotion import end_trial
    from captionloop.serving.logs import by_command

    only = None if version is None else registry.version(version).version
    with by_command(f"models.{role}", f"{registry.name} {version or ''}".rstrip()) as entry:
        trial = end_trial(registry, role, "stopped", why=why or "by hand", only=only)
        if trial is None:
            entry.result = "nothing"
    click.echo(
        f"There is no such {role}: nothing to end."
        if trial is None
        else f"Version {trial.version.version} is the {role} no more."
    )


def _plan(trial: "Trial") -> dict[str, Any]:
    plan = trial.plan.model_dump(mode="json")
    return {"version": trial.version.version, **plan}


def _headline(trial: "Trial") -> str:
    plan = trial.plan
    of, unit = ("photos", "photos") if plan.role == "shadow" else ("people", "ratings")
    return (
        f"Version {trial.version.version} is the {plan.role} of {plan.share:.0%} of the {of} beside version "
        f"{plan.champion}, since {plan.began:%Y-%m-%d %H:%M} UTC, "
        f"for {plan.most} {unit} or {plan.days:g} days."
    )


def _lines(trial: "Trial", assessment: "CanaryAssessment") -> list[str]:
    measures = assessment.measures
    rows = [("stars", measures.stars, 1), ("corrected", measures.corrected, -1)]
    rows.append(("words changed", measures.changed, -1))
    total = assessment.answered + assessment.replaced
    return [
        _headline(trial),
        *(f"{name:<14} {_row(each, sign)}" for name, each, sign in rows),
        f"It made {assessment.answered} of {total} captions for its people.",
        f"{assessment.advice.capitalize()}: {assessment.reason}.",
    ]


def _row(each: "RatingComparison", sign: int) -> str:
    """Values of both; the difference as it is, with the interval that holds at all looks."""
    low, high = sorted(sign * edge for edge in each.interval)
    sides = (f"{sign * arm.mean:.2f} ({arm.ratings} ratings)" for arm in (each.candidate, each.champion))
    difference = f"{sign * each.difference:+.2f} [{low:+.2f}, {high:+.2f}]"
    return f"canary {next(sides)}, champion {next(sides)}: {difference}"


def _as_json(trial: "Trial", assessment: "CanaryAssessment") -> dict[str, Any]:
    measures = {"stars": assessment.measures.stars, "corrected": assessment.measures.corrected}
    measures["words_changed"] = assessment.measures.changed
    return {
        **_plan(trial),
        "advice": assessment.advice,
        "reason": assessment.reason,
        "measures": {
            name: {
                "verdict": each.verdict,
                "difference": each.difference,
                "interval": [edge if abs(edge) < float("inf") else None for edge in each.interval],
                "canary_ratings": each.candidate.ratings,
                "champion_ratings": each.champion.ratings,
                "counted_as": round(each.candidate.weight + each.champion.weight, 1),
            }
            for name, each in measures.items()
        },
        "answered": assessment.answered,
        "replaced": assessment.replaced,
    }
