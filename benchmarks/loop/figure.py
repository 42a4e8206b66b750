"""The curve: quality by number of ratings."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.loop.play import Round


def figure(rounds: Sequence[Round], best: tuple[float, float] | None, path: Path) -> None:
    """Quality by round, of whoever was champion after it; candidates that the gate refused are hollow."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = drawing.subplots()
    ratings = [sum(one.ratings for one in rounds[: n + 1]) for n in range(len(rounds))]
    refused = [n for n, one in enumerate(rounds) if not one.passed]
    for served, candidates, name, colour in (
        (
            [one.first for one in rounds],
            [one.candidate_first for one in rounds],
            "sample scenes, which it was trained on",
            "#4a6fa5",
        ),
        (
            [one.shifted for one in rounds],
            [one.candidate_shifted for one in rounds],
            "shifted scenes, which people sent and rated",
            "#c0562f",
        ),
    ):
        axes.plot(ratings, [100 * value for value in served], marker="o", label=name, color=colour)
        axes.scatter(
            [ratings[n] for n in refused],
            [100 * candidates[n] for n in refused],
            facecolors="none",
            edgecolors=colour,
            label="a candidate that the gate refused" if refused and colour == "#c0562f" else None,
        )
    if best is not None:
        axes.axhline(100 * best[0], linestyle="--", color="#c0562f", label="shifted, trained on all captions")
        axes.axhline(70 * best[0], linestyle=":", color="#c0562f", label="70 % of it")
    axes.set_xlabel("ratings by simulated people")
    axes.set_ylabel("CIDEr (x100) on test scenes")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    drawing.legend(loc="outside lower center", ncols=2, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=150)
