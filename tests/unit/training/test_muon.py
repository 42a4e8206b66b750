from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from captionloop.training.muon import Muon, mixes_channels, orthogonalised


@settings(max_examples=40)
@given(st.integers(1, 24), st.integers(1, 60), st.floats(1e-6, 1e6), st.integers(0, 1000))
def test_of_a_matrix_its_directions_are_left(rows: int, columns: int, size: float, seed: int) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    update = orthogonalised(size * matrix)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    kept = values > 0.05 * values.norm()
    reached = torch.einsum("mk,mn,kn->k", left, update, right)
    assert update.shape == matrix.shape
    assert ((reached > 0.5) & (reached < 1.3))[kept].all()
    across = left.T @ update @ right.T - torch.diag(reached)
    assert across.abs().max() < 0.02


def test_a_gradient_of_nothing_changes_nothing() -> None:
    assert not orthogonalised(torch.zeros(4, 9)).any()


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda: nn.Conv2d(3, 8, 7), False),
        (lambda: nn.Conv2d(8, 16, 3), True),
        (lambda: nn.Conv2d(8, 8, 3, groups=8), False),
        (lambda: nn.Linear(8, 4), True),
        (lambda: nn.BatchNorm2d(8), False),
    ],
)
def test_colours_and_single_channels_are_for_adamw(layer: Callable[[], nn.Module], *, expected: bool) -> None:
    assert mixes_channels(next(layer().parameters())) is expected


def taught(steps: int, *, reloaded: bool = False) -> Tensor:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(6 * 4, 2))
    inputs = torch.randn(5, 4, 4, 4)

    def built() -> Muon:
        convolution, head = model[0], model[2]
        return Muon(
            [
                {"params": [convolution.weight], "lr": 0.05, "orthogonal": True},
                {"params": [convolution.bias, *head.parameters()], "lr": 1e-2, "weight_decay": 0.0},
            ]
        )

    optimizer = built()
    for step in range(steps):
        if reloaded and step == steps // 2:
            state = optimizer.state_dict()
            optimizer = built()
            optimizer.load_state_dict(state)
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def test_a_step_is_as_large_as_the_rate_says_and_adamw_does_the_rest() -> None:
    before, after = taught(0), taught(1)
    moved = (after - before)[: 6 * 36].view(6, 36)
    assert torch.linalg.matrix_norm(moved, 2).item() == pytest.approx(0.05, rel=0.4)
    assert (after - before)[6 * 36 :].abs().max() == pytest.approx(1e-2, rel=0.01)


def test_it_goes_on_from_what_it_had_saved() -> None:
    assert torch.equal(taught(6), taught(6, reloaded=True))
    assert not torch.equal(taught(6), taught(5))
