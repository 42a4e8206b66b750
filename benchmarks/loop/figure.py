"""The curve: quality by number of ratings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.loop.play import Round

FIRST: Final = "#4a6fa5"
SHIFTED: Final = "#c0562f"


def figure(rounds: Sequence[Round], best: tuple[float, float] | None, path: Path) -> None:
    """Quality by round, of whoever was champion after it; candidates that the gate refused are hollow."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = drawing.subplots()
    ratings = [sum(one.ratings for one in rounds[: n + 1]) for n in range(len(rounds))]
    for values, name, colour in (
        ([one.first for one in rounds], "sample scenes, which it was trained on", FIRST),
        ([one.shifted for one in rounds], "shifted scenes, which people sent and rated", SHIFTED),
    ):
        axes.plot(ratings, [100 * value for value in values], marker="o", label=name, color=colour)
    refused = [(at, one) for at, one in zip(ratings, rounds, strict=True) if not one.passed]
    if refused:
        axes.scatter(
            [at for at, _ in refused] * 2,
            [100 * one.candidate_shifted for _, one in refused]
            + [100 * one.candidate_first for _, one in refused],
            facecolors="none",
            edgecolors=[SHIFTED] * len(refused) + [FIRST] * len(refused),
            label="a candidate that the gate refused",
        )
    if best is not None:
        axes.axhline(100 * best[0], linestyle="--", color=SHIFTED, label="shifted, trained on all captions")
        axes.axhline(70 * best[0], linestyle=":", color=SHIFTED, label="70 % of it")
    axes.set_xlabel("ratings by simulated people")
    axes.set_ylabel("CIDEr (x100) on test scenes")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    drawing.legend(loc="outside lower center", ncols=2, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=150)
