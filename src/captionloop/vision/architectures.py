"""The architectures that can be an encoder, by name; known without importing torch.

They are torchvision's classifiers whose trunk keeps a spatial grid (so no vision transformers with one flat
sequence, and no GoogLeNet or Inception with their auxiliary heads), two networks of our own, and with the
extra `captionloop[timm]` all of timm's that keep a grid, as `timm/<name>` (`timm_models.py`).
"""

import difflib
import importlib.util
from typing import Final

from captionloop.errors import ConfigurationError, EncoderError

TIMM: Final = "timm/"

OWN: Final = ("resnet8", "resnet10")
"""ResNets with one basic block per stage: what a sample corpus can teach from scratch in a minute.

`resnet8` ends with the third stage and has 32, 64 and 192 channels; `resnet10` has torchvision's.
"""

TORCHVISION: Final = (
    "alexnet",
    *(f"convnext_{size}" for size in ("tiny", "small", "base", "large")),
    *(f"densenet{depth}" for depth in (121, 161, 169, 201)),
    *(f"efficientnet_b{index}" for index in range(8)),
    *(f"efficientnet_v2_{size}" for size in "sml"),
    *(f"mnasnet{width}" for width in ("0_5", "0_75", "1_0", "1_3")),
    *("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
    *(f"regnet_x_{size}" for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf")),
    *(f"regnet_y_{size}" for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf", "128gf")),
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
    *(f"shufflenet_v2_x{width}" for width in ("0_5", "1_0", "1_5", "2_0")),
    *("squeezenet1_0", "squeezenet1_1"),
    *(f"swin_{size}" for size in "tsb"),
    *(f"swin_v2_{size}" for size in "tsb"),
    *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
)

ARCHITECTURES: Final = OWN + TORCHVISION


def is_of_timm(name: str) -> bool:
    """Whether an architecture is one of timm's."""
    return name.startswith(TIMM)


def timm_name(name: str) -> str:
    """What timm calls an architecture of its own: `timm/resnet18.a1_in1k` is `resnet18.a1_in1k`."""
    return name.removeprefix(TIMM)


def check_architecture(name: str) -> None:
    """Refuses what cannot be an encoder.

    Raises:
        EncoderError: there is none of that name; with the names that come close.
        ConfigurationError: it is one of timm's, which is not installed.
    """
    if is_of_timm(name):
        _check_timm(name)
    elif name not in ARCHITECTURES:
        close = difflib.get_close_matches(name, ARCHITECTURES, n=3, cutoff=0.5) or (
            "resnet50",
            "mobilenet_v2",
        )
        raise EncoderError(f"unknown encoder '{name}'; did you mean {', '.join(close)}?")


def _check_timm(name: str) -> None:
    if importlib.util.find_spec("timm") is None:
        raise ConfigurationError(
            f"encoder '{name}' needs timm, which is not installed; install captionloop[timm]"
        )
    from timm.models import get_pretrained_cfg, is_model, list_models, list_pretrained

    model = timm_name(name).partition(".")[0]
    if is_model(model):
        try:
            get_pretrained_cfg(timm_name(name))
        except RuntimeError:  # it has no such tag
            close = list_pretrained(f"{model}.*") or [model]
        else:
            return
    else:
        close = difflib.get_close_matches(model, list_models(), n=3, cutoff=0.5) or ["resnet50"]
    raise EncoderError(f"unknown encoder '{name}'; did you mean {', '.join(TIMM + each for each in close)}?")
