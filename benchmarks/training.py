"""A training step on cached features, against the same model written naively; and what Lightning adds to it.

python -m benchmarks.training                    # batch 32, 196 x 2048, 9,500 words, padded to 50 steps
python -m benchmarks.training --batch 2 --words 50 --channels 16 --regions 4 --rounds 1     # a moment
"""

import argparse
import random
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.reference import ReferenceDecoder
from benchmarks.timing import interleaved, table
from captionloop.captioner.decoders import Decoder, build_decoder
from captionloop.captioner.decoders.base import BOS, EOS, PackedCaptions
from captionloop.captioner.model_config import ShowAttendTellConfig
from captionloop.hardware import PrecisionSetting, fast_products
from captionloop.training.caption_module import caption_loss

CAPTIONS_PER_PHOTO = 5


def stepping(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """Forward, backward, clip, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()

    return step


def our_loss(
    decoder: Decoder, grids: torch.Tensor, captions: PackedCaptions, precision: PrecisionSetting = "auto"
) -> torch.Tensor:
    with fast_products(precision, grids.device):
        output = decoder(grids, captions)
    assert output.attention_penalty is not None
    return caption_loss(output.logits, captions, 0.0) + output.attention_penalty / grids.shape[1]


def check(decoder: Decoder, reference: ReferenceDecoder, *batch: object) -> None:
    """Both compute the same loss, dropout aside."""
    grids, captions, padded, lengths = batch
    decoder.eval(), reference.eval()
    output = decoder(grids, captions)
    ours = caption_loss(output.logits, captions, 0.0) + output.attention_penalty / grids.shape[1]
    torch.testing.assert_close(ours, reference.loss(grids, padded, lengths), atol=1e-3, rtol=1e-3)
    decoder.train(), reference.train()


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, default in (("batch", 32), ("regions", 196), ("channels", 2048), ("words", 9500)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--padded", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=2)
    size = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    draw = random.Random(0)
    texts = [[draw.randrange(4, size.words) for _ in range(draw.randint(7, 15))] for _ in range(size.batch)]
    grids = torch.rand(size.batch, size.regions, size.channels, device=device)
    captions = PackedCaptions.pack(texts, range(size.batch)).to(device)
    padded = torch.zeros(size.batch, size.padded + 2, dtype=torch.int64)
    for row, text in enumerate(texts):
        padded[row, : len(text) + 2] = torch.tensor([BOS, *text, EOS])
    padded, lengths = padded.to(device), torch.tensor([len(text) + 1 for text in texts], device=device)

    def build(**changes: object) -> Decoder:
        config = ShowAttendTellConfig(**changes)
        decoder = build_decoder(config, vocabulary_size=size.words, channels=size.channels)
        return decoder.to(device).train()

    decoder = build()
    reference = ReferenceDecoder(decoder).to(device).train()
    check(decoder, reference, grids, captions, padded, lengths)
    photos = max(1, size.batch // CAPTIONS_PER_PHOTO)
    shared = PackedCaptions.pack(texts, [i % photos for i in range(size.batch)], images=photos).to(device)
    longest = int(lengths.max()) + 1
    rivals = {
        "reference: keys every step, full padding": stepping(
            reference, partial(reference.loss, grids, padded, lengths)
        ),
        "reference, padded to the longest caption only": stepping(
            reference, partial(reference.loss, grids, padded[:, :longest], lengths)
        ),
        "ours, one caption a photo, float32": stepping(
            decoder, partial(our_loss, decoder, grids, captions, "float32")
        ),
        "ours, one caption a photo": stepping(decoder, partial(our_loss, decoder, grids, captions)),
        "ours, five captions a photo": stepping(decoder, partial(our_loss, decoder, grids[:photos], shared)),
    }
    dot = build(attention="dot")
    rivals["ours, dot attention, one caption a photo"] = stepping(
        dot, partial(our_loss, dot, grids, captions)
    )
    seconds = interleaved(rivals, size.rounds)
    print(
        table(
            f"Training step, {size.batch} captions, {size.regions} x {size.channels}, {size.words} words, "
            f"on {device}",
            seconds,
            reference=next(iter(rivals)),
            unit="captions/s",
            count=size.batch,
        )
    )
    return seconds


if __name__ == "__main__":
    main()
