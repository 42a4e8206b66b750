"""Caption metrics: what METEOR takes, what runs beside it, and the rewards that training draws from CIDEr.

    python -m benchmarks.metrics --captions 1000 --systems 1 4

The corpus is drawn from a small grammar, so that nothing is needed. Beside each number stands what it
replaces: pycocoevalcap's own scorers one after the other, each system with a METEOR process of its own.
"""

import argparse
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from typing import Any

from captionloop.scoring.bootstrap import bootstrap, paired_bootstrap
from captionloop.scoring.cider import CiderD
from captionloop.scoring.java_metrics import Meteor, java_binary, tokenize
from captionloop.scoring.scores import score_systems

References = dict[str, list[str]]

THINGS = "dog cat man woman boy girl horse bird car bike boat ball child rider player"
LOOKS = "brown black white red young old small large wet happy striped spotted"
DEEDS = "runs jumps sits stands plays swims sleeps climbs waits looks"
PLACES = "grass beach street snow field water hill bench rock road park wall"


def sentence(draw: random.Random) -> str:
    """Something like a caption: about eleven words."""
    one, two = draw.sample(THINGS.split(), 2)
    look, other, deed, place = (draw.choice(words.split()) for words in (LOOKS, LOOKS, DEEDS, PLACES))
    return f"A {look} {one} {deed} near a {other} {two} {draw.choice(['on', 'by', 'over'])} the {place}."


def corpus(photos: int, draw: random.Random) -> References:
    return {f"photo{i}": [sentence(draw) for _ in range(5)] for i in range(photos)}


def guesses(references: References, draw: random.Random) -> dict[str, str]:
    """Captions that share some words with the references."""
    return {
        photo: " ".join(dict.fromkeys((draw.choice(captions)[:-1] + " " + sentence(draw)).split()[:11]))
        for photo, captions in references.items()
    }


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def others(references: References, systems: Mapping[str, Mapping[str, str]]) -> dict[str, float]:
    """pycocoevalcap as it comes: one scorer after the other, for each system. Seconds for each."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor as TheirMeteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    os.environ["PATH"] = f"{java_binary().parent}{os.pathsep}{os.environ.get('PATH', '')}"
    taken = dict.fromkeys(("tokenizer", "BLEU", "METEOR", "ROUGE-L", "CIDEr"), 0.0)
    for hypotheses in systems.values():
        began = time.perf_counter()
        tokenizer = PTBTokenizer()
        theirs = tokenizer.tokenize({i: [{"caption": c} for c in cs] for i, cs in references.items()})
        ours = tokenizer.tokenize({i: [{"caption": c}] for i, c in hypotheses.items()})
        taken["tokenizer"] += time.perf_counter() - began
        scorers = {"BLEU": lambda: Bleu(4), "METEOR": TheirMeteor, "ROUGE-L": Rouge, "CIDEr": Cider}
        for name, scorer in scorers.items():
            taken[name] += seconds(partial(_compute, scorer, theirs, ours))
    return taken


def _compute(scorer: Callable[[], Any], theirs: object, ours: object) -> None:
    with redirect_stdout(None):  # BLEU prints its counts
        scorer().compute_score(theirs, ours)


def meteor_alone(captions: Sequence[tuple[str, Sequence[str]]]) -> tuple[float, float]:
    """Seconds to read the paraphrase table (one caption), and for all captions on top of that."""

    def align(some: Sequence[tuple[str, Sequence[str]]]) -> float:
        def work() -> None:
            with Meteor() as meteor:
                meteor.align(some)

        return seconds(work)

    start = align(captions[:1])
    return start, max(0.0, align(captions) - start)


def rewards(captions: int, draw: random.Random) -> tuple[float, float, float]:
    """CIDEr as a reward: captions/s here, captions/s of pycocoevalcap, seconds to prepare 6,000 photos."""
    from pycocoevalcap.cider.cider import Cider

    references = {photo: [c.lower().split() for c in texts] for photo, texts in corpus(6000, draw).items()}
    began = time.perf_counter()
    cider = CiderD(references)
    prepared = time.perf_counter() - began
    photos = draw.choices(list(references), k=320)
    sampled = [draw.choice(references[photo])[:-2] for photo in photos]
    rounds = 20
    ours = seconds(lambda: [cider.rewards(photos, sampled) for _ in range(rounds)])
    few = list(references)[:captions]
    joined = {photo: [" ".join(c) for c in references[photo]] for photo in few}
    hypotheses = {photo: captions[:1] for photo, captions in joined.items()}
    theirs = seconds(lambda: Cider().compute_score(joined, hypotheses))
    return rounds * len(photos) / ours, len(few) / theirs, prepared


def table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([lines[0], "-+-".join("-" * width for width in widths), *lines[1:]])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--captions", type=int, default=1000)
    parser.add_argument("--systems", type=int, nargs="+", default=[1, 4], help="how many models are scored")
    options = parser.parse_args(arguments)
    draw = random.Random(0)
    references = corpus(options.captions, draw)
    systems = {f"system {i}": guesses(references, draw) for i in range(max(options.systems))}
    print(f"Metrics of {options.captions:,} captions with 5 references, {os.cpu_count()} cores\n")

    taken = others(references, {"one": systems["system 0"]})
    total = sum(taken.values())
    rows = [["one after the other (pycocoevalcap)", "seconds", "share"]]
    rows += [[name, f"{spent:.2f}", f"{100 * spent / total:.0f} %"] for name, spent in taken.items()]
    print(table([*rows, ["together", f"{total:.2f}", "100 %"]]), "\n")

    tokens = iter(tokenize([text for texts in references.values() for text in texts]))
    tokenized = [[next(tokens) for _ in texts] for texts in references.values()]
    captions = [(first, rest) for first, *rest in tokenized]
    start, aligning = meteor_alone(captions)
    print(f"METEOR: {start:.1f} s to read its paraphrases, then {aligning:.1f} s for all captions\n")

    rows = [["systems", "ours, s", "one after the other, s", "ratio"]]
    for count in options.systems:
        some = dict(list(systems.items())[:count])
        ours = seconds(lambda some=some: score_systems(some, references))
        theirs = total if count == 1 else sum(others(references, some).values())
        rows.append([str(count), f"{ours:.1f}", f"{theirs:.1f}", f"{theirs / ours:.1f} x"])
    print(table(rows), "\n")

    first, second, *_ = score_systems(dict(list(systems.items())[:2]), references).values()
    print(f"95 % intervals of 7 metrics, 1,000 resamples: {1000 * seconds(lambda: bootstrap(first)):.0f} ms")
    paired = seconds(lambda: paired_bootstrap(first, second, "CIDEr", resamples=2000))
    print(f"paired comparison on CIDEr, 2,000 resamples: {1000 * paired:.0f} ms\n")

    ours, theirs, prepared = rewards(options.captions, draw)
    print(
        table(
            [
                ["CIDEr as a reward", "captions/s", "ratio"],
                ["pycocoevalcap", f"{theirs:,.0f}", "1.0 x"],
                [
                    f"ours ({prepared:.1f} s to prepare 6,000 photos)",
                    f"{ours:,.0f}",
                    f"{ours / theirs:.0f} x",
                ],
            ]
        )
    )


if __name__ == "__main__":
    main()
