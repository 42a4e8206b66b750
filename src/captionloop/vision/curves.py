"""The curves of an encoder's adaptation, as a figure."""

import pandas as pd
from matplotlib.figure import Figure


def curves_figure(curves: pd.DataFrame) -> Figure:
    """Losses, and the mean average precision on the validation split, by epoch."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    losses, precision = figure.subplots(1, 2)
    losses.plot(curves["epoch"] + 1, curves["train_loss"], marker=".", label="train")
    losses.plot(curves["epoch"] + 1, curves["val_loss"], marker=".", label="validation")
    losses.set(title="Concept loss", xlabel="epoch", ylabel="nats per photo")
    losses.legend()
    precision.plot(curves["epoch"] + 1, curves["val_map"], marker=".", color="tab:green")
    precision.set(title="Concepts found, validation", xlabel="epoch", ylabel="mean average precision")
    for axes in (losses, precision):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
