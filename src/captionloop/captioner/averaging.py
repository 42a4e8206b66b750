"""The exponential moving average of a model's weights while it is trained (Polyak and Juditsky 1992)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from captionloop.vision.weights import not_finite


class MovingAverage:
    """Follows the weights of a model; `decay` 0 is the weights themselves.

    The average is young at first: after n steps the decay is at most (1 + n) / (10 + n), so that the random
    weights of the beginning are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay, self._steps = model, decay, 0
        self._average = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps)) if self._decay else 0.0
        current = self._model.state_dict()
        averages = [self._average[name] for name in current]
        torch._foreach_lerp_(averages, list(current.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it, the model has the averaged weights."""
        trained = {name: value.detach().clone() for name, value in self._model.state_dict().items()}
        self._model.load_state_dict(self._average)
        try:
            yield
        finally:
            self._model.load_state_dict(trained)

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights, on the CPU."""
        return {name: value.detach().cpu().contiguous() for name, value in self._average.items()}

    def not_finite(self) -> list[str]:
        """Names of weights that hold a NaN or an infinity, the model's own or averaged."""
        return not_finite(self._model.state_dict()) + not_finite(self._average)

    def state_dict(self) -> dict[str, object]:
        """For a checkpoint."""
        return {"steps": self._steps, "average": self._average}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """From a checkpoint."""
        steps, average = state["steps"], state["average"]
        if not isinstance(steps, int) or not isinstance(average, dict):
            raise TypeError("not the state of a moving average")
        self._steps = steps
        for name, value in average.items():
            self._average[name].copy_(value)

    def to(self, device: torch.device) -> None:
        """Move the average to where the model is."""
        self._average = {name: value.to(device) for name, value in self._average.items()}
