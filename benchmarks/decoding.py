"""Beam search over many images at once, against one image at a time with keys projected at every step.

python -m benchmarks.decoding                    # batch 32, beam 5, 49 x 2048, 9,500 words, 12 steps
python -m benchmarks.decoding --images 2 --words 50 --channels 16 --rounds 1     # a moment
"""

import argparse
from functools import partial

import torch

from benchmarks.reference import ReferenceDecoder, long_winded, reference_beam_search
from benchmarks.timing import interleaved, table
from captionloop.captioner.decoders import build_decoder
from captionloop.captioner.decoding import PrepackedDecoder
from captionloop.captioner.model_config import (
    DecodingOptions,
    ShowAndTellConfig,
    ShowAttendTellConfig,
    TransformerConfig,
)


def search(searcher: PrepackedDecoder, grids: torch.Tensor, options: DecodingOptions) -> list[list[int]]:
    """As `Captioner.decode_grids` does."""
    return [list(found[0].tokens) for found in searcher.decode(grids, options)]


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, default in (("images", 32), ("beam", 5), ("regions", 49), ("channels", 2048), ("words", 9500)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    size = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    grids = torch.rand(size.images, size.regions, size.channels, device=device)
    build = partial(build_decoder, vocabulary_size=size.words, channels=size.channels)
    ours = long_winded(build(ShowAttendTellConfig())).eval().to(device)
    searcher, reference = PrepackedDecoder(ours), ReferenceDecoder(ours).eval().to(device)
    options = DecodingOptions(
        beam_width=size.beam, alternatives=1, max_length=size.steps, length_penalty=0, precision="float32"
    )
    fast = options.model_copy(update={"precision": "auto"})

    def one_by_one() -> list[list[int]]:
        return [reference_beam_search(reference, grid[None], size.beam, size.steps) for grid in grids]

    same = sum(a == b for a, b in zip(search(searcher, grids, options), one_by_one(), strict=True))
    rivals = {
        "reference: one by one, keys at every step": one_by_one,
        "show_attend_tell, float32": partial(search, searcher, grids, options),
        "show_attend_tell": partial(search, searcher, grids, fast),
    }
    others = (ShowAttendTellConfig(attention="dot"), ShowAndTellConfig(), TransformerConfig())
    for name, config in zip(("show_attend_tell, dot", "show_and_tell", "transformer"), others, strict=True):
        other = PrepackedDecoder(long_winded(build(config)).eval().to(device))
        rivals[name] = partial(search, other, grids, fast)
    seconds = interleaved(rivals, size.rounds)
    print(
        table(
            f"Beam {size.beam}, {size.images} images, {size.regions} x {size.channels}, {size.words} words,"
            f" {size.steps} steps, on {device}: {same} of {size.images} captions are the reference's",
            seconds,
            reference=next(iter(rivals)),
            unit="images/s",
            count=size.images,
        )
    )
    return seconds


if __name__ == "__main__":
    main()
