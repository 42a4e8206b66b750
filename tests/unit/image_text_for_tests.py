"""A tiny CLIP of transformers in a folder: random weights, or taught what goes with what."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast

SIDE = 32
_BEGIN, _END, _UNKNOWN = "<|startoftext|>", "<|endoftext|>", "<unk>"


def processor_of(texts: Sequence[str]) -> CLIPProcessor:
    """A processor that knows the words of these texts; its model is `model_for(processor)`."""
    words = sorted({word for text in texts for word in text.lower().split()})
    vocabulary = {word: number for number, word in enumerate([_BEGIN, _END, _UNKNOWN, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_BEGIN} $A {_END}", special_tokens=[(_BEGIN, 0), (_END, 1)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=_UNKNOWN, bos_token=_BEGIN, eos_token=_END, pad_token=_END
    )
    size = {"height": SIDE, "width": SIDE}
    return CLIPProcessor(CLIPImageProcessor(size=size, do_center_crop=False), fast)


def model_for(processor: CLIPProcessor, *, hidden: int = 32, layers: int = 1, patch: int = 8) -> CLIPModel:
    """A CLIP with random weights."""
    torch.manual_seed(0)
    shared = {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
    }
    text = {"vocab_size": len(processor.tokenizer), "max_position_embeddings": 24}
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    return CLIPModel(
        CLIPConfig(
            text_config=shared | text | special,
            vision_config=shared | {"image_size": SIDE, "patch_size": patch},
            projection_dim=hidden,
        )
    )


def train_contrastively(
    model: CLIPModel,
    processor: CLIPProcessor,
    images: Sequence[Image.Image],
    texts: Sequence[str],
    steps: int,
) -> None:
    """Contrastive training on pairs, all of them in every step."""
    tokens = processor.tokenizer(
        list(texts), padding="max_length", max_length=24, truncation=True, return_tensors="pt"
    )
    pixels = processor.image_processor(images=list(images), return_tensors="pt")["pixel_values"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    for _ in range(steps):
        loss = model(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            pixel_values=pixels,
            return_loss=True,
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def save(model: CLIPModel, processor: CLIPProcessor, folder: Path) -> Path:
    """As transformers saves it."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
