import copy

import pytest
import torch
from torchvision.models import get_model

from captionloop.training.concept_classifier import FoldedConvolution, fold_norms, unfold_norms


def lived_in(architecture: str) -> torch.nn.Module:
    """A network whose normalisations have statistics, scales and shifts of their own."""
    torch.manual_seed(0)
    network = get_model(architecture, weights=None).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
    return network


@pytest.mark.parametrize("architecture", ["resnet18", "mobilenet_v2", "shufflenet_v2_x0_5"])
def test_folding_changes_no_number(architecture: str) -> None:
    network = lived_in(architecture)
    images = torch.rand(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        before = network(images)
        fold_norms(network)
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
        after = network(images)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3 * float(before.abs().max()))


def test_unfolding_gives_back_the_network() -> None:
    network = lived_in("mobilenet_v2")
    expected = copy.deepcopy(network.state_dict())
    fold_norms(network)
    unfold_norms(network)
    assert network.state_dict().keys() == expected.keys()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-5)


def test_what_was_learnt_folded_is_kept_unfolded() -> None:
    network = lived_in("resnet18")
    images = torch.rand(2, 3, 64, 64)
    fold_norms(network)
    optimizer = torch.optim.SGD([weight for weight in network.parameters() if weight.requires_grad], 1e-2)
    network(images).square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        folded = network(images)
        unfold_norms(network)
        torch.testing.assert_close(network(images), folded, rtol=1e-3, atol=1e-3)


def test_depthwise_weights_stay() -> None:
    network = lived_in("mobilenet_v2")
    fold_norms(network)
    depthwise = [
        module
        for module in network.modules()
        if isinstance(module, FoldedConvolution) and module.originals[0].groups > 1
    ]
    assert depthwise
    assert not any(module.weight.requires_grad for module in depthwise)
