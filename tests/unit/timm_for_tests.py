"""Tiny models of timm's families under names of their own, registered as timm registers its own."""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

SIDE = 32
_FED = {"input_size": (3, SIDE, SIDE), "fixed_input_size": True, "num_classes": 10}

default_cfgs = generate_default_cfgs(
    {
        "tiny_registers.lvd": _FED | {"crop_pct": 1.0, "license": "apache-2.0", "classifier": "head"},
        "tiny_siglip.webli": _FED
        | {
            "mean": (0.5,) * 3,
            "std": (0.5,) * 3,
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "classifier": "head",
        },
        "tiny_swin.in1k": _FED | {"crop_pct": 0.9, "classifier": "head.fc", "first_conv": "patch_embed.proj"},
        "tiny_border.x": _FED | {"crop_mode": "border"},
    }
)
_TINY = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}


def _vit(name: str, **kwargs: Any) -> VisionTransformer:
    return build_model_with_cfg(VisionTransformer, name, **kwargs)


@register_model
def tiny_registers(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """As DINOv2 with registers: a class token and four registers before the patches."""
    more = {"reg_tokens": 4, "no_embed_class": True, "init_values": 1e-5}
    return _vit("tiny_registers", pretrained=pretrained, **(_TINY | more | kwargs))


@register_model
def tiny_siglip(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """As SigLIP: no class token, pooled by attention."""
    more = {"class_token": False, "global_pool": "map"}
    return _vit("tiny_siglip", pretrained=pretrained, **(_TINY | more | kwargs))


@register_model
def tiny_border(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """Fed photos with a border."""
    return _vit("tiny_border", pretrained=pretrained, **(_TINY | kwargs))


@register_model
def tiny_swin(pretrained: bool = False, **kwargs: Any) -> SwinTransformer:
    """Channels last inside."""
    small = {"patch_size": 4, "window_size": 4, "embed_dim": 8, "depths": (1, 1), "num_heads": (2, 2)}
    return build_model_with_cfg(SwinTransformer, "tiny_swin", pretrained=pretrained, **(small | kwargs))
