"""Small decoders with loud weights, so that their opinions differ clearly from word to word."""

import torch

from captionloop.captioner.decoders import Decoder, build_decoder
from captionloop.captioner.model_config import (
    EnsembleConfig,
    ShowAndTellConfig,
    ShowAttendTellConfig,
    TransformerConfig,
)

CONFIGS = {
    "show_and_tell": ShowAndTellConfig(embedding=10, hidden=12, dropout=0.4),
    "show_and_tell, two layers, tied": ShowAndTellConfig(embedding=10, hidden=12, layers=2, tied=True),
    "show_attend_tell": ShowAttendTellConfig(embedding=10, hidden=12, attention_size=8),
    "show_attend_tell, dot, projected": ShowAttendTellConfig(
        embedding=10,
        hidden=12,
        attention_size=8,
        attention="dot",
        feature_size=9,
        tied=True,
        feature_dropout=0.2,
    ),
    "transformer": TransformerConfig(width=12, heads=2, layers=2, feedforward=16),
}
CONFIGS["ensemble"] = EnsembleConfig(
    members=(CONFIGS["show_attend_tell"], CONFIGS["transformer"], CONFIGS["show_and_tell"])
)
CHANNELS = 7
REGIONS = 5


def loud_decoder(name: str, vocabulary_size: int = 9, seed: int = 0) -> Decoder:
    torch.manual_seed(seed)
    decoder = build_decoder(CONFIGS[name], vocabulary_size=vocabulary_size, channels=CHANNELS).eval()
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.add_(torch.randn_like(weight) * 0.5)
    return decoder


def some_features(images: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(images, REGIONS, CHANNELS, generator=torch.Generator().manual_seed(seed))
