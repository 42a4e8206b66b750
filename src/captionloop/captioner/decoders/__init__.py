"""The decoders, one interface (`base.Decoder`), and how a configuration becomes one of them."""

from captionloop.captioner.decoders.base import Decoder, State, Step, TeacherForcingOutput
from captionloop.captioner.decoders.ensemble import Ensemble
from captionloop.captioner.decoders.show_and_tell import ShowAndTell
from captionloop.captioner.decoders.show_attend_tell import ShowAttendTell
from captionloop.captioner.decoders.transformer import Transformer
from captionloop.captioner.model_config import (
    DecoderConfig,
    EnsembleConfig,
    PretrainedConfig,
    ShowAndTellConfig,
    ShowAttendTellConfig,
)


def build_decoder(config: DecoderConfig, *, vocabulary_size: int, channels: int) -> Decoder:
    """A decoder with fresh weights (drawn from torch's global generator)."""
    if isinstance(config, ShowAndTellConfig):
        return ShowAndTell(config, vocabulary_size, channels)
    if isinstance(config, ShowAttendTellConfig):
        return ShowAttendTell(config, vocabulary_size, channels)
    if isinstance(config, EnsembleConfig):
        members = [
            build_decoder(member, vocabulary_size=vocabulary_size, channels=channels)
            for member in config.members
        ]
        return Ensemble(config, members)
    if isinstance(config, PretrainedConfig):
        from captionloop.captioner.pretrained.base_model import open_base
        from captionloop.captioner.pretrained.pretrained_decoder import PretrainedDecoder

        return PretrainedDecoder(config, open_base(config.base), channels)
    return Transformer(config, vocabulary_size, channels)


__all__ = [
    "Decoder",
    "Ensemble",
    "ShowAndTell",
    "ShowAttendTell",
    "State",
    "Step",
    "TeacherForcingOutput",
    "Transformer",
    "build_decoder",
]
