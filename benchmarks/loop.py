"""The whole loop with simulated people: caption, rate, correct, retrain, gate, promote, and again.

    make loop-demo
    python -m benchmarks.loop --rounds 5 --ratings 200 --seed 0
    python -m benchmarks.loop --colluding 0.3                        # a third of the raters attack
    python -m benchmarks.loop --colluding 0.3 --no-defences          # ... and everybody is believed

The captioner of the sample scenes meets scenes of another world, none of whose words it knows. Everything is
real but the people: captions come from the registered champion, ratings go through the service's own store
into a database, and each round runs the pipelines that `retraining` runs in Airflow, in a workspace and a
registry of its own below `data/loop`. The project's models are left alone.
"""

import argparse
import json
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from captionloop.captioner.captioner import Captioner
from captionloop.corpus.photos import PhotoFolder
from captionloop.corpus.scenes import SceneParameters, draw_scenes
from captionloop.corpus.scenes.scenes import Scene
from captionloop.evaluation.variety import words_of
from captionloop.feedback.archive import PhotoArchive
from captionloop.feedback.database import upgrade
from captionloop.feedback.records import PhotoFacts, ServedCaption
from captionloop.feedback.simulation import People, Shown, Taste
from captionloop.feedback.store import RatingsStore
from captionloop.registry.model_registry import ModelRegistry
from captionloop.scoring.cider import CiderD

ROOT = Path(__file__).resolve().parents[1]
PIPELINES = (
    "feedback",
    "retraining_caching",
    "retraining_training",
    "retraining_evaluation",
    "retraining_registration",
)
GOLD = 0.15  # of the captions shown are of photos of the corpus, which nobody among the raters knows


@dataclass(frozen=True)
class Picture:
    """A photo, its name, and what people say of it."""

    name: str
    photo: bytes
    captions: tuple[str, ...]

    @property
    def sha256(self) -> str:
        import hashlib

        return hashlib.sha256(self.photo).hexdigest()


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
    seconds: float


@dataclass(frozen=True)
class World:
    """The pictures of a play: what is sent, which known ones are slipped in, what is tested on."""

    sent: Sequence[Picture]
    known: Sequence[Picture]
    shifted_test: Sequence[Picture]
    first_test: Sequence[Picture]
    corpus: dict[str, list[str]]


def scenes_world(base: Path, split: str, seed: int) -> World:
    """Shifted scenes, and the sample scenes of the base workspace; `split` is for measuring quality."""
    shifted = list(draw_scenes(SceneParameters(domain="shifted", train=400, val=100, test=100, seed=seed)))
    images = pd.read_parquet(base / "02_intermediate/sample_scenes/images.parquet")
    captions = pd.read_parquet(base / "02_intermediate/sample_scenes/captions.parquet")
    texts = {str(key): list(said) for key, said in captions.groupby("image_id")["text"]}
    photos = PhotoFolder(str(base / "01_raw/sample_scenes/photos"))

    def corpus_pictures(name: str) -> list[Picture]:
        rows = images[images["split"] == name]
        return [
            Picture(image_id, photos.read(uri), tuple(texts[image_id]))
            for image_id, uri in zip(rows["image_id"], rows["uri"], strict=True)
        ]

    def scenes(name: str) -> list[Picture]:
        return [_picture(scene) for scene in shifted if scene.split == name]

    return World(scenes("train"), corpus_pictures("val"), scenes(split), corpus_pictures(split), texts)


def _picture(scene: Scene) -> Picture:
    return Picture(scene.name, scene.photo, scene.captions)


def cider(captioner: Captioner, pictures: Sequence[Picture]) -> float:
    """CIDEr (a fraction) of what a captioner says about the pictures."""
    return cider_of(
        [found.best.text for found in captioner.caption([one.photo for one in pictures])], pictures
    )


def cider_of(said: Sequence[str], pictures: Sequence[Picture]) -> float:
    """CIDEr (a fraction) of one caption for each picture."""
    judge = CiderD({one.name: [words_of(text) for text in one.captions] for one in pictures})
    spoken = [words_of(text) for text in said]
    return float(judge.rewards([one.name for one in pictures], spoken).mean())


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

    def serve(self, captioner: Captioner, pictures: Sequence[Picture], turn: int) -> list[Shown]:
        """Caption pictures and record it, as the service does."""
        version = str(self.registry.champion().version)  # type: ignore[union-attr]
        shown, done = [], []
        for number, (one, captioned) in enumerate(
            zip(pictures, captioner.caption([one.photo for one in pictures]), strict=True)
        ):
            best = captioned.best
            self.archive.write(one.sha256, one.photo)
            served = ServedCaption(
                caption_id=f"{turn:02d}-{number:05d}",
                owner="key:demo",
                photo=PhotoFacts(one.sha256, "image/jpeg", len(one.photo), 128, 128),
                text=best.text,
                confidence=best.confidence,
                words=[{"text": word.text, "confidence": word.confidence} for word in best.words],
                alternatives=[],
                model_name=captioner.name,
                model_version=version,
            )
            done.append(self.store.record(served))
            shown.append(Shown(served.caption_id, best.text, one.captions))
        for future in done:
            future.result(30)
        return shown

    def rate(self, people: People, taste: Taste, shown: Sequence[Shown], ratings: int, turn: int) -> int:
        """Let the crowd rate what was shown."""
        opinions = people.rate(shown, taste.share(shown), ratings, turn)
        for future in [self.store.rate(caption, rater, opinion) for rater, caption, opinion in opinions]:
            future.result(30)
        return len(opinions)

    def configured(self, name: str) -> dict[str, Any]:
        """Parameters of the project."""
        from kedro.config import OmegaConfigLoader

        loader = OmegaConfigLoader(
            str(ROOT / "conf"),
            env=self.env,
            base_env="base",
            default_run_env="base",
            runtime_params=self.params,
        )
        return dict(loader["parameters"][name])

    def retrain(self, turn: int) -> Path:
        """Run the retraining pipelines; where they wrote."""
        from kedro.framework.session import KedroSession
        from kedro.framework.startup import bootstrap_project

        bootstrap_project(ROOT)
        workspace = self.folder / f"runs/{turn}"
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
    people: People,
    *,
    rounds: int,
    ratings: int,
    ungated: bool = False,
    corpus: str = "sample_scenes",
) -> list[Round]:
    """All rounds; prints a line for each."""
    taste, done = Taste(world.corpus), []
    before = cider(game.champion(), world.shifted_test), _first(game.champion(), world)
    done.append(Round(0, 0, 0, 0, 0, True, "", *before, *before, 0, 0))
    print(HEAD, line(done[0]), sep="\n", flush=True)
    each = len(world.sent) // rounds
    for turn in range(1, rounds + 1):
        begin = time.monotonic()
        new = world.sent[(turn - 1) * each : turn * each]
        gold = round(GOLD / (1 - GOLD) * len(new))
        known = [world.known[(turn * gold + n) % len(world.known)] for n in range(gold)]
        champion = game.champion()
        shown = game.serve(champion, [*new, *known], turn)
        given = game.rate(people, taste, shown, ratings, turn)
        written = game.retrain(turn)
        report = json.loads((written / f"08_reporting/{corpus}/feedback_report.json").read_text())
        registered = json.loads((written / f"08_reporting/{corpus}/registered_version.json").read_text())
        if registered["passed"] or ungated:
            game.registry.promote(registered["version"])
        candidate = game.version(registered["version"])
        evaluated = json.loads((written / f"08_reporting/{corpus}/evaluation.json").read_text())["models"]
        quality = cider(candidate, world.shifted_test), evaluated["candidate"]["CIDEr"]["value"]
        kept = quality if registered["passed"] or ungated else (done[-1].shifted, done[-1].first)
        references = pd.read_parquet(written / f"03_primary/{corpus}/feedback_references.parquet")
        harmful = {*people.abuse, people.praised}
        done.append(
            Round(
                turn,
                given,
                report["used"]["corrections"],
                report["used"]["approved_captions"],
                sum(report["quarantined"].values()),
                registered["passed"],
                registered["reason"],
                *kept,
                *quality,
                int(references["text"].isin(harmful).sum()),
                time.monotonic() - begin,
            )
        )
        print(line(done[-1]), flush=True)
    return done


def ceiling(game: Play, world: World, epochs: int, turn: int = 99) -> tuple[float, float]:
    """CIDEr (shifted, first) of the first champion taught on with every caption of all that was sent."""
    from captionloop.pipelines.retraining.nodes import teach_on

    from captionloop.feedback.replay import RetrainingParameters, training_tables
    from captionloop.vision.caching import CachingParameters, cache_features
    from captionloop.vision.store import FeatureStore

    champion = game.version(1)
    folder = game.folder / "fully_labelled"
    photos = PhotoFolder(str(folder / "photos"))
    for one in world.sent:
        photos.write(one.name, one.photo)
    sent = pd.DataFrame({"image_id": [one.name for one in world.sent]}).assign(
        uri=[one.name for one in world.sent], sha256=[one.sha256 for one in world.sent],
        width=128, height=128, split="train", source="feedback",
    )  # fmt: skip
    said = [(f"{one.name}#{n}", one.name, text) for one in world.sent for n, text in enumerate(one.captions)]
    labels = pd.DataFrame(said, columns=["caption_id", "image_id", "text"]).assign(source="human", weight=1.0)
    store = FeatureStore(str(game.base / "04_feature/store"))
    corpus = [
        pd.read_parquet(game.base / f"02_intermediate/sample_scenes/{name}.parquet")
        for name in ("images", "captions")
    ]
    manifest, _ = cache_features(sent, photos, champion.encoder, store, CachingParameters())
    everything = tuple(dict.fromkeys((*manifest.photos, *corpus[0]["sha256"])))
    parameters = RetrainingParameters.model_validate(
        {**game.configured("retraining"), "epochs": epochs, "repeat": 1, "replay": 0.75, "seed": turn}
    )
    images, captions = training_tables((corpus[0], corpus[1]), (sent, labels), frozenset(), parameters)
    report = {"until": None, "used": {"corrections": 0, "approved_captions": 0}}
    taught, _, _ = teach_on(
        images, captions, manifest.model_copy(update={"photos": everything}).open(), champion, {"version": 1},
        report, parameters, folder / "work",
    )  # fmt: skip
    return cider(taught, world.shifted_test), cider(taught, world.first_test)


def figure(rounds: Sequence[Round], best: tuple[float, float] | None, path: Path) -> None:
    """Quality by round, of whoever was champion after it."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = drawing.subplots()
    ratings = [sum(one.ratings for one in rounds[: n + 1]) for n in range(len(rounds))]
    for values, name, colour in (
        ([one.first for one in rounds], "sample scenes, which it was trained on", "#4a6fa5"),
        ([one.shifted for one in rounds], "shifted scenes, which people sent and rated", "#c0562f"),
    ):
        axes.plot(ratings, [100 * value for value in values], marker="o", label=name, color=colour)
    if best is not None:
        axes.axhline(100 * best[0], linestyle="--", color="#c0562f", label="shifted, trained on all captions")
        axes.axhline(70 * best[0], linestyle=":", color="#c0562f", label="70 % of it")
    axes.set_xlabel("ratings by simulated people")
    axes.set_ylabel("CIDEr (x100) on test scenes")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="center right", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=150)


def crowd(ratings: int, **people: Any) -> People:
    """Enough people that nobody gives more than ten ratings a round.

    A round passes within a second here, and more of one person in that time are a burst to the defences.
    """
    return People(raters=max(20, ratings // 10), **people)


def _first(champion: Captioner, world: World) -> float:
    """CIDEr on the frozen set, which its bundle carries from when it was evaluated; else it is captioned."""
    known = champion.metrics.get("CIDEr")
    return float(known["value"]) if known else cider(champion, world.first_test)


HEAD = (
    "| round | ratings | corrections used | approved | quarantined | abusive used | gate "
    "| candidate: shifted | first | served then: shifted | seconds |\n"
    "|---:|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|"
)


def line(one: Round) -> str:
    """A row of the table."""
    gate = "" if one.number == 0 else "passed" if one.passed else "refused"
    return (
        f"| {one.number} | {one.ratings} | {one.corrections} | {one.approved} | {one.quarantined} "
        f"| {one.abusive} | {gate} | {100 * one.candidate_shifted:.1f} "
        f"| {100 * one.candidate_first:.1f} | {100 * one.shifted:.1f} | {one.seconds:.0f} |"
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--ratings", type=int, default=200, help="a round")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--colluding", type=float, default=0.0, help="share of the raters")
    arguments.add_argument("--flood", type=int, default=3, help="ratings of a colluder for one of the others")
    arguments.add_argument("--no-defences", action="store_true", help="believe everybody")
    arguments.add_argument("--ungated", action="store_true", help="promote whatever the gate says")
    arguments.add_argument(
        "--ceiling", type=int, default=0, metavar="EPOCHS", help="train on all captions too"
    )
    arguments.add_argument("--figure", type=Path, help="draw the curve into this file")
    arguments.add_argument("--folder", type=Path, default=Path("data/loop"))
    arguments.add_argument("--base", type=Path, default=Path("data"))
    given = arguments.parse_args()
    logging.getLogger("kedro").setLevel(logging.WARNING)
    from captionloop.commands.project import open_registry

    game = Play(given.folder, None, given.base, {"defences": not given.no_defences})
    registry = open_registry(ROOT)
    game.crown(registry.fetch("champion", given.folder / "first"))
    people = crowd(given.ratings, seed=given.seed, colluding=given.colluding, flood=given.flood)
    world = scenes_world(given.base, "test", 7)
    done = play(game, world, people, rounds=given.rounds, ratings=given.ratings, ungated=given.ungated)
    game.store.close()
    best = None
    if given.ceiling:
        best = ceiling(game, world, given.ceiling)
        reached = (done[-1].shifted - done[0].shifted) / (best[0] - done[0].shifted)
        print(
            f"\nTrained on all captions of these scenes: CIDEr {100 * best[0]:.1f} shifted, "
            f"{100 * best[1]:.1f} first.\nWith ratings: {100 * done[-1].shifted:.1f} shifted, "
            f"{100 * done[-1].shifted / best[0]:.0f} % of it "
            f"({100 * reached:.0f} % of the way from where it began); "
            f"first {100 * (done[-1].first - done[0].first):+.1f}."
        )
    result = {"arguments": {key: str(value) for key, value in vars(given).items()}, "ceiling": best}
    result["rounds"] = [asdict(one) for one in done]
    (given.folder / "rounds.json").write_text(json.dumps(result, indent=2))
    if given.figure:
        figure(done, best, given.figure)


if __name__ == "__main__":
    main()
