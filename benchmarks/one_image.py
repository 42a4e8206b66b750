"""One photo, from JPEG bytes to a caption with attention: MobileNetV2 and our search, against what is usual.

python -m benchmarks.one_image                   # weights are random: they do not change the time
python -m benchmarks.one_image --words 50 --rounds 2     # a moment
"""

import argparse
import io

import numpy as np
import torch
from PIL import Image

from benchmarks.reference import ReferenceDecoder, long_winded, reference_beam_search
from benchmarks.timing import interleaved, table
from captionloop.captioner.captioner import Captioner
from captionloop.captioner.consensus import DIMENSIONS, NeighbourIndex
from captionloop.captioner.decoders import build_decoder
from captionloop.captioner.model_config import ConsensusOptions, DecodingOptions, ShowAttendTellConfig
from captionloop.tokenizer import CaptionTokenizer
from captionloop.vision.encoder import IMAGENET_DEVIATION, IMAGENET_MEAN, Encoder, EncoderSpec
from captionloop.vision.runtimes import native_precision

BEAM, STEPS = 5, 12
WIDE, PHOTOS = 20, 6_000  # of a search that is ranked by consensus, with as many photos as Flickr8k has


def photo() -> bytes:
    """Soft noise of 500 x 375 px: as hard to decode as a photo."""
    pixels = np.random.default_rng(0).integers(0, 255, (47, 63, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).resize((500, 375), Image.Resampling.BICUBIC).save(data, "JPEG", quality=90)
    return data.getvalue()


def ours(words: int, device: str) -> Captioner:
    spec = EncoderSpec(architecture="mobilenet_v2", input_size=224, precision=native_precision())
    encoder = Encoder.build(spec)
    tokenizer = CaptionTokenizer.train([" ".join(f"w{number}" for number in range(words))])
    config = ShowAttendTellConfig()
    decoder = build_decoder(config, vocabulary_size=tokenizer.vocabulary_size, channels=encoder.channels)
    search = DecodingOptions(beam_width=BEAM, max_length=STEPS, precision="auto")
    known = neighbours(encoder.channels, tokenizer.vocabulary_size)
    return Captioner("ours", encoder, long_winded(decoder), tokenizer, search, known, device=device)


def neighbours(channels: int, words: int) -> NeighbourIndex:
    """As many as Flickr8k has, five captions of ten words each, made up."""
    random = np.random.default_rng(0)
    captions = random.integers(4, words, (PHOTOS, 5, 10)).tolist()
    return NeighbourIndex(
        centre=random.normal(size=channels).astype(np.float32),
        projection=random.normal(size=(channels, DIMENSIONS)).astype(np.float32),
        directions=(random.normal(size=(PHOTOS, DIMENSIONS)) / DIMENSIONS**0.5).astype(np.float16),
        captions=tuple(tuple(tuple(caption) for caption in of_photo) for of_photo in captions),
    )


class Usual:
    """Eager ResNet-101 at 256 px and the reference search."""

    def __init__(self, words: int, device: str) -> None:
        from torchvision.models import resnet101

        self.device = device
        self.trunk = torch.nn.Sequential(*list(resnet101().children())[:-2]).eval().to(device)
        decoder = build_decoder(ShowAttendTellConfig(), vocabulary_size=words, channels=2048)
        self.decoder = ReferenceDecoder(long_winded(decoder)).eval().to(device)
        self.mean = torch.tensor(IMAGENET_MEAN, device=device)[:, None, None]
        self.deviation = torch.tensor(IMAGENET_DEVIATION, device=device)[:, None, None]

    @torch.no_grad()
    def caption(self, data: bytes) -> list[int]:
        pixels = np.array(Image.open(io.BytesIO(data)).convert("RGB").resize((256, 256)))
        image = torch.from_numpy(pixels).to(self.device).permute(2, 0, 1).float() / 255
        grid = self.trunk(((image - self.mean) / self.deviation)[None]).flatten(2).transpose(1, 2)
        return reference_beam_search(self.decoder, grid, BEAM, STEPS)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--words", type=int, default=9500)
    parser.add_argument("--rounds", type=int, default=8)
    size = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    captioner, usual, data = ours(size.words, device), Usual(size.words, device), photo()
    square = captioner.prepare(data)
    grid = captioner.runtime.encode(square[None])
    wide = captioner.decoding.model_copy(update={"beam_width": WIDE})
    agreed = wide.model_copy(update={"consensus": ConsensusOptions()})
    exact = captioner.decoding.model_copy(update={"precision": "float32"})
    reference = "eager ResNet-101, 256 px, reference search"
    rivals = {
        reference: lambda: usual.caption(data),
        "ours: JPEG to caption with attention": lambda: captioner.caption([data]),
        "ours, the search in float32": lambda: captioner.caption([data], exact),
        "  of it: decoding the JPEG": lambda: captioner.prepare(data),
        "  of it: encoding": lambda: captioner.runtime.encode(square[None]),
        "  of it: searching": lambda: captioner.caption_grids(grid),
        f"ours, beam {WIDE}": lambda: captioner.caption([data], wide),
        f"ours, beam {WIDE}, ranked by consensus": lambda: captioner.caption([data], agreed),
    }
    seconds = interleaved(rivals, size.rounds, in_a_row=3)
    title = f"One photo, beam {BEAM}, {STEPS} words of {size.words}, on {device} (medians)"
    print(table(title, seconds, reference=reference, unit="photos/s", count=1))
    return seconds


if __name__ == "__main__":
    main()
