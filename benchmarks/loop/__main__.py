"""The whole loop with simulated people: caption, rate, correct, retrain, gate, promote, and again.

    make loop-demo
    python -m benchmarks.loop --rounds 5 --ratings 200 --seed 0
    python -m benchmarks.loop --colluding 0.3                        # a third of the raters attack
    python -m benchmarks.loop --colluding 0.3 --identities fresh     # ... each rating under another name
    python -m benchmarks.loop --colluding 0.3 --no-defences          # ... and everybody is believed
    python -m benchmarks.loop --env from_nothing                     # the champion is a pre-trained captioner
    python -m benchmarks.loop --rounds 0 --ceiling 12 --split val    # all captions alone, to choose by

The captioner of the sample scenes meets scenes of another world, none of whose words it knows. Everything is
real but the people: captions come from the registered champion, what people rate comes from the service's own
queue, gold items among it, ratings go through its store into a database, and each round runs the pipelines
that `retraining` runs in Airflow, in a workspace and a registry of its own below `data/loop`. The project's
models are left alone.
"""

import argparse
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.loop.ceiling import ceiling
from benchmarks.loop.figure import figure
from benchmarks.loop.play import Play, Round, play, simulated_raters
from benchmarks.loop.project import ROOT
from benchmarks.loop.world import scenes_world


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--ratings", type=int, default=200, help="of what was sent, a round")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--colluding", type=float, default=0.0, help="share of the raters")
    arguments.add_argument("--flood", type=int, default=3, help="ratings of a colluder for one of the others")
    arguments.add_argument(
        "--identities",
        choices=["kept", "fresh"],
        default="kept",
        help="fresh: a colluder's every rating has another name",
    )
    arguments.add_argument("--no-defences", action="store_true", help="believe everybody")
    arguments.add_argument("--ungated", action="store_true", help="promote whatever the gate says")
    arguments.add_argument(
        "--ceiling", type=int, default=0, metavar="EPOCHS", help="train on all captions too"
    )
    arguments.add_argument("--figure", type=Path, help="draw the curve into this file")
    arguments.add_argument("--folder", type=Path, default=Path("data/loop"))
    arguments.add_argument("--base", type=Path, default=Path("data"))
    arguments.add_argument("--env", help="Kedro environment, such as `pretrained`")
    arguments.add_argument("--params", help="changes of its parameters: epochs=12,retraining.replay=1.5")
    arguments.add_argument(
        "--split", default="test", help="that is measured on; `val` for whatever is chosen"
    )
    given = arguments.parse_args()
    logging.getLogger("kedro").setLevel(logging.WARNING)
    from captionloop.commands.model_lookup import open_registry

    undefended = {"defences": False, "label_noise_rounds": 0} if given.no_defences else {}
    game = Play(given.folder, given.env, given.base, parameters_given(given.params) | undefended)
    registry = open_registry(ROOT, given.env)
    game.crown(registry.fetch("champion", given.folder / "first"))
    people = simulated_raters(
        given.ratings, seed=given.seed, colluding=given.colluding, flood=given.flood,
        fresh=given.identities == "fresh",
    )  # fmt: skip
    world = scenes_world(given.base, given.split)
    done = play(game, world, people, rounds=given.rounds, ratings=given.ratings, ungated=given.ungated)
    game.store.close()
    keep(given, done, None)
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
        keep(given, done, best)
    if given.figure:
        figure(done, best, given.figure)


def parameters_given(text: str | None) -> dict[str, Any]:
    """What `--params` says, nested where a name has dots."""
    from omegaconf import OmegaConf

    return dict(OmegaConf.to_object(OmegaConf.from_dotlist(text.split(",") if text else [])))


def keep(given: argparse.Namespace, done: list[Round], best: tuple[float, float] | None) -> None:
    """Write what came of it to `rounds.json`."""
    result = {
        "arguments": {key: str(value) for key, value in vars(given).items()},
        "ceiling": best,
        "rounds": [asdict(one) for one in done],
    }
    (given.folder / "rounds.json").write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
