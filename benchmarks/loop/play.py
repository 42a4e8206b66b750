"""A play of the loop: the service's store, the pipelines and a registry of its own, and simulated people."""

import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.loop.people import rate_from_queue
from benchmarks.loop.project import ROOT, configured
from benchmarks.loop.world import Picture, World, cider
from captionloop.captioner.captioner import Captioner
from captionloop.feedback.feedback_parameters import FeedbackParameters
from captionloop.feedback.gold_items import add_gold_items, choose_gold_items
from captionloop.feedback.simulation import SimulatedItem, SimulatedQuality, SimulatedRaters
from captionloop.photos import PhotoArchive
from captionloop.ratings.database import upgrade
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import PhotoFacts, ServedCaption
from captionloop.registry.model_registry import ModelRegistry

PIPELINES = (
    "feedback",
    "retraining_encoder",
    "retraining_caching",
    "retraining_training",
    "retraining_evaluation",
    "retraining_registration",
)
GOLD_ITEMS = 60


@dataclass(frozen=True)
class Round:
    """What came of a round; CIDEr as fractions, of whoever is champion after it."""

    number: int
    ratings: int
    corrections: int
    approved: int
    quarantined: int
    passed: bool
    reason: str
    shifted: float
    first: float
    candidate_shifted: float
    candidate_first: float
    abusive: int
    harmful_weight: float
    harmful_held_out: int
    counted: int
    seconds: float


class Play:
    """One play of the loop, in a folder of its own."""

    def __init__(self, folder: Path, env: str | None, base: Path, params: dict[str, Any]) -> None:
        self.folder, self.env, self.base, self.params = folder, env, base, params
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.tracking = f"sqlite:///{folder.absolute()}/mlflow.db"
        self.ratings = f"sqlite:///{folder.absolute()}/ratings.db"
        upgrade(self.ratings)
        self.store = RatingsStore(self.ratings)
        self.archive = PhotoArchive(str(folder.absolute() / "photos"))
        self.registry = ModelRegistry(self.tracking)
        self.gold: dict[str, SimulatedItem] = {}
        self.sent: dict[str, SimulatedItem] = {}

    def crown(self, bundle: Path) -> None:
        """Make a bundle the first champion of this play's own registry."""
        from mlflow import MlflowClient

        client = MlflowClient(self.tracking)
        client.create_experiment("captionloop", artifact_location=str(self.folder.absolute() / "mlruns"))
        self.registry.promote(self.registry.register(bundle).version)

    def champion(self) -> Captioner:
        """Whoever is champion now."""
        return self.version("champion")

    def version(self, which: int | str) -> Captioner:
        """A registered captioner."""
        found = self.registry.version(which)
        return Captioner.load(self.registry.fetch(found.version, self.folder / f"models/{found.version}"))

    def add_gold(self, world: World) -> None:
        """Have gold items of the corpus's photos in the queue, as `captionloop gold` adds them."""
        images = pd.DataFrame(
            [(one.name, one.name, one.sha256, "val", "corpus") for one in world.known],
            columns=["image_id", "uri", "sha256", "split", "source"],
        )
        rows = [(name, text, "human") for name, texts in world.corpus.items() for text in texts]
        captions = pd.DataFrame(rows, columns=["image_id", "text", "source"])
        parameters = FeedbackParameters.model_validate(self.configured("feedback"))
        chosen = choose_gold_items(images, captions, GOLD_ITEMS, parameters, seed=0)
        known = {one.sha256: one for one in world.known}
        photos = {one.name: one.photo for one in world.known}
        ids = add_gold_items(chosen, photos.__getitem__, self.store, self.archive)
        for caption_id, item in zip(ids, chosen, strict=True):
            self.gold[caption_id] = SimulatedItem(caption_id, item.text, known[item.sha256].captions)

    def serve(self, captioner: Captioner, pictures: Sequence[Picture], round_number: int) -> None:
        """Caption pictures, whose senders agree to show them, and record it, as the service does."""
        version = str(self.registry.champion().version)  # type: ignore[union-attr]
        done = []
        for number, (one, captioned) in enumerate(
            zip(pictures, captioner.caption([one.photo for one in pictures]), strict=True)
        ):
            best = captioned.best
            self.archive.write(one.sha256, one.photo)
            served = ServedCaption(
                caption_id=f"{round_number:02d}-{number:05d}",
                owner="key:demo",
                photo=PhotoFacts(one.sha256, "image/jpeg", len(one.photo), 128, 128),
                text=best.text,
                confidence=best.confidence,
                words=[{"text": word.text, "confidence": word.confidence} for word in best.words],
                alternatives=[],
                model_name=captioner.name,
                model_version=version,
                shared=True,
            )
            done.append(self.store.record(served))
            self.sent[served.caption_id] = SimulatedItem(served.caption_id, best.text, one.captions)
        for future in done:
            future.result(30)

    def rate(self, people: SimulatedRaters, taste: SimulatedQuality, ratings: int, round_number: int) -> int:
        """Let the crowd rate what the service's queue shows each of them; how many ratings there are."""
        return rate_from_queue(self.store, people, taste, self.gold, self.sent, ratings, round_number)

    def configured(self, name: str) -> dict[str, Any]:
        """Parameters of the project, as this play changes them."""
        return configured(name, self.env, self.params)

    def retrain(self, round_number: int) -> Path:
        """Run the retraining pipelines; where they wrote."""
        from kedro.framework.session import KedroSession
        from kedro.framework.startup import bootstrap_project

        bootstrap_project(ROOT)
        workspace = self.folder / f"runs/{round_number}"
        params = {
            "workspace": str(workspace),
            "base": str(self.base),
            "ratings": self.ratings,
            "photos": str(self.folder.absolute() / "photos"),
            "tracking_uri": self.tracking,
            "least_ratings": 1,
            **self.params,
        }
        with KedroSession.create(ROOT, env=self.env, runtime_params=params) as session:
            session.run(pipeline_names=list(PIPELINES))
        return workspace


def play(
    game: Play,
    world: World,
    people: SimulatedRaters,
    *,
    rounds: int,
    ratings: int,
    ungated: bool = False,
    corpus: str = "sample_scenes",
) -> list[Round]:
    """All rounds; prints a line for each."""
    taste, done = SimulatedQuality(world.corpus), []
    before = cider(game.champion(), world.shifted_test), _first(game.champion(), world)
    done.append(Round(0, 0, 0, 0, 0, True, "", *before, *before, 0, 0.0, 0, 0, 0))
    game.add_gold(world)
    print(HEAD, line(done[0]), sep="\n", flush=True)
    each = len(world.sent) // max(1, rounds)
    for round_number in range(1, rounds + 1):
        begin = time.monotonic()
        new = world.sent[(round_number - 1) * each : round_number * each]
        game.serve(game.champion(), new, round_number)
        given = game.rate(people, taste, ratings, round_number)
        written = game.retrain(round_number)
        report = json.loads((written / f"08_reporting/{corpus}/feedback_report.json").read_text())
        registered = json.loads((written / f"08_reporting/{corpus}/registered_version.json").read_text())
        if registered["passed"] or ungated:
            game.registry.promote(registered["version"])
        candidate = game.version(registered["version"])
        evaluated = json.loads((written / f"08_reporting/{corpus}/evaluation.json").read_text())["models"]
        quality = cider(candidate, world.shifted_test), evaluated["candidate"]["CIDEr"]["value"]
        kept = quality if registered["passed"] or ungated else (done[-1].shifted, done[-1].first)
        references = pd.read_parquet(written / f"03_primary/{corpus}/feedback_references.parquet")
        harmful = references["text"].isin({*people.abuse, people.praised})
        tested = json.loads((written / f"03_primary/{corpus}/held_out_feedback.json").read_text())
        held_out = [text for texts in tested["references"].values() for text in texts]
        done.append(
            Round(
                round_number,
                given,
                report["used"]["corrections"],
                report["used"]["approved_captions"],
                sum(report["quarantined"].values()),
                registered["passed"],
                registered["reason"],
                *kept,
                *quality,
                int(harmful.sum()),
                float(references["weight"][harmful].sum() / max(1e-9, references["weight"].sum())),
                sum(text in {*people.abuse, people.praised} for text in held_out),
                report["counted_ratings"],
                time.monotonic() - begin,
            )
        )
        print(line(done[-1]), flush=True)
    return done


def simulated_raters(ratings: int, **people: Any) -> SimulatedRaters:
    """Enough people that nobody gives more than ten ratings a round, if half of them are of gold items.

    A round passes within a second here, and more of one person in that time are a burst to the defences.
    """
    return SimulatedRaters(raters=max(20, math.ceil(2 * ratings / 10)), **people)


def _first(champion: Captioner, world: World) -> float:
    """CIDEr on the frozen set, which its bundle carries from when it was evaluated; else it is captioned."""
    known = champion.metrics.get("CIDEr")
    return float(known["value"]) if known else cider(champion, world.first_test)


HEAD = (
    "| round | ratings | corrections used | approved | quarantined | harmful used, weight, held out | gate "
    "| candidate: shifted | first | served then: shifted | seconds |\n"
    "|---:|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|"
)


def line(one: Round) -> str:
    """A row of the table."""
    harm = f"{one.abusive}, {100 * one.harmful_weight:.1f} %, {one.harmful_held_out}"
    gate = "" if one.number == 0 else "passed" if one.passed else "refused"
    return (
        f"| {one.number} | {one.ratings} | {one.corrections} | {one.approved} | {one.quarantined} "
        f"| {harm} | {gate} | {100 * one.candidate_shifted:.1f} "
        f"| {100 * one.candidate_first:.1f} | {100 * one.shifted:.1f} | {one.seconds:.0f} |"
    )
