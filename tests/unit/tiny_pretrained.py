"""Tiny pre-trained models of each architecture: random weights, in folders that `save_pretrained` wrote."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from corpus_for_tests import MadeUpFeatures
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Captioner

KINDS = ("vision-encoder-decoder", "blip", "git", "florence2", "smolvlm")
TEXTS = (
    "a red car on a wet road", "two dogs running in the snow", "a small boat near the shore at night",
    "a man's hat lies on the green grass", "three children playing with a ball, laughing",
    "what does the image describe?", "describe the photo in one sentence.",
)  # fmt: skip
SIDE = 32
TEMPLATE = (
    "{% for message in messages %}<|user|>{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<end>"
    "{% endfor %}"
    "<|assistant|>"
)


class TowerFeatures(MadeUpFeatures):
    """As much as the tower of a tiny VisionEncoderDecoderModel gives: 17 vectors with 32 channels."""

    rows, columns, channels, regions = 1, 17, 32, 17
    views = ("whole",)

    def __init__(self, grids: dict[str, np.ndarray], fingerprint: str) -> None:
        super().__init__({key: np.pad(grid, ((0, 11), (0, 20))) for key, grid in grids.items()})
        self.fingerprint = fingerprint


def make_pretrained(kind: str, folder: Path, *, seed: int = 0, texts: Sequence[str] = TEXTS) -> Path:
    """A model of one kind in `folder`; the folder."""
    tokenizer = (_word_pieces if kind in {"blip", "git"} else _byte_pairs)(texts)
    # Its processor teaches the tokenizer what it marks photos with.
    processor = _smolvlm_processor(tokenizer) if kind == "smolvlm" else None
    torch.manual_seed(seed)
    model = {
        "vision-encoder-decoder": _encoder_decoder, "blip": _blip, "git": _git, "florence2": _florence,
        "smolvlm": _smolvlm,
    }[kind](tokenizer)  # fmt: skip
    with torch.no_grad():  # so that not every next word is about as likely
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "norm" not in name.lower():
                weight.mul_(4)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    else:
        pixels = {
            "image_mean": [0.48, 0.46, 0.41],
            "image_std": [0.27, 0.26, 0.28],
            "size": {"height": SIDE, "width": SIDE},
        }
        (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    return folder


def randomize_adapter(captioner: "Captioner", *, seed: int) -> None:
    """Gives a captioner's adapter random weights, as if it had learnt something."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in captioner.decoder.named_parameters():
            if "lora_" in name:
                weight.add_(torch.randn(weight.shape, generator=random) * 0.3)


def _word_pieces(texts: Sequence[str]):
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]"]
    made.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=90, special_tokens=special))
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        bos_token="[DEC]",
    )  # fmt: skip


def _byte_pairs(texts: Sequence[str]):
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<image>", "<end>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    made.train_from_iterator(texts, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    marks = [AddedToken(token, special=True) for token in special[4:]]
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=marks,
    )  # fmt: skip


def _vision():
    return {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
        "image_size": SIDE, "patch_size": 8,
    }  # fmt: skip


def _encoder_decoder(tokenizer):
    from transformers import GPT2Config, VisionEncoderDecoderConfig, VisionEncoderDecoderModel, ViTConfig

    decoder = GPT2Config(
        vocab_size=len(tokenizer), n_embd=24, n_layer=2, n_head=2, n_positions=64, add_cross_attention=True,
        is_decoder=True, bos_token_id=0, eos_token_id=2, pad_token_id=1,
    )  # fmt: skip
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(**_vision()), decoder)
    model = VisionEncoderDecoderModel(config)
    for where in (model.config, model.generation_config):
        where.decoder_start_token_id, where.eos_token_id, where.pad_token_id = 0, 2, 1
    return model


def _blip(tokenizer):
    from transformers import BlipConfig, BlipForConditionalGeneration

    text = {
        "vocab_size": len(tokenizer), "hidden_size": 24, "encoder_hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64, "bos_token_id": 4,
        "eos_token_id": 3, "pad_token_id": 0, "sep_token_id": 3, "projection_dim": 16,
    }  # fmt: skip
    return BlipForConditionalGeneration(
        BlipConfig(text_config=text, vision_config=_vision(), projection_dim=16)
    )


def _git(tokenizer):
    from transformers import GitConfig, GitForCausalLM

    config = GitConfig(
        vision_config=_vision(), vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=48, max_position_embeddings=128, bos_token_id=2,
        eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    return GitForCausalLM(config)


def _florence(tokenizer):
    from transformers import Florence2Config, Florence2ForConditionalGeneration

    vision = {
        "embed_dim": [8, 16, 24, 32], "num_heads": [1, 2, 2, 2], "num_groups": [1, 2, 2, 2],
        "depths": [1, 1, 1, 1], "projection_dim": 24, "window_size": 2, "patch_size": [3, 3, 3, 3],
        "patch_stride": [2, 2, 2, 1],
        "patch_padding": [1, 1, 1, 1], "max_position_embeddings": 10, "max_temporal_embeddings": 5,
    }  # fmt: skip
    text = {
        "vocab_size": len(tokenizer), "d_model": 24, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48, "max_position_embeddings": 128, "bos_token_id": 0, "pad_token_id": 1,
        "eos_token_id": 2, "decoder_start_token_id": 2, "forced_bos_token_id": None,
    }  # fmt: skip
    config = Florence2Config(
        vision_config=vision, text_config={"model_type": "bart", **text}, image_token_id=4, projection_dim=24,
        bos_token_id=0, pad_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = Florence2ForConditionalGeneration(config)
    model.generation_config.forced_eos_token_id = None
    return model


def _smolvlm(tokenizer):
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

    text = {
        "model_type": "llama", "vocab_size": len(tokenizer), "hidden_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 48,
        "max_position_embeddings": 256, "bos_token_id": 0, "eos_token_id": 5, "pad_token_id": 1,
    }  # fmt: skip
    config = SmolVLMConfig(
        text_config=text, vision_config=_vision(), image_token_id=4, scale_factor=2, pad_token_id=1
    )
    model = SmolVLMForConditionalGeneration(config)
    model.generation_config.eos_token_id = [5, 2]
    return model


def _smolvlm_processor(tokenizer):
    from transformers import Idefics3ImageProcessor, Idefics3Processor

    pixels = Idefics3ImageProcessor(
        size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False,
        image_mean=[0.5] * 3, image_std=[0.5] * 3,
    )  # fmt: skip
    return Idefics3Processor(pixels, tokenizer, image_seq_len=4, chat_template=TEMPLATE)
