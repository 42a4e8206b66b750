"""What captioners of the size that people would choose take here: seconds a photo and memory, beside ours.

python -m benchmarks.pretrained_shapes                    # BLIP base, SmolVLM 256M, ours; minutes
python -m benchmarks.pretrained_shapes --tokens 2 --rounds 1

Weights are random: shapes decide. Each model runs in a process of its own, from JPEG bytes to tokens,
float32, greedy and with beam 5, always as many tokens. Beside the seconds stand those that the processor
worked, which a busy neighbour hardly changes; peak memory is the process's. It needs the extra
`captionloop[transformers]`. SmolVLM is shown one square of 512 px, 64 tokens: with its image splitting it
would see up to 17.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.one_image import photo

MODELS = ("captionloop", "BLIP base", "SmolVLM 256M")
PROMPT = 20
WORDS = 5000


def blip() -> tuple[torch.nn.Module, int, Callable[[torch.Tensor], dict[str, torch.Tensor]]]:
    """`Salesforce/blip-image-captioning-base`: ViT-B/16 at 384 px, BERT base with cross-attention."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    config = BlipConfig(
        text_config={"vocab_size": 30524, "hidden_size": 768, "encoder_hidden_size": 768},
        vision_config={"hidden_size": 768, "image_size": 384, "patch_size": 16},
    )
    return BlipForConditionalGeneration(config), 384, lambda pixels: {"pixel_values": pixels}


def smolvlm() -> tuple[torch.nn.Module, int, Callable[[torch.Tensor], dict[str, torch.Tensor]]]:
    """`HuggingFaceTB/SmolVLM-256M-Instruct`: SigLIP base at 512 px, SmolLM2 135M."""
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

    image_token = 49190
    text = {
        "model_type": "llama",
        "vocab_size": 49280,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": False,
    }
    vision = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 512,
        "patch_size": 16,
    }
    config = SmolVLMConfig(
        text_config=text, vision_config=vision, scale_factor=4, image_token_id=image_token, pad_token_id=2
    )

    def inputs(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        tokens = torch.tensor([[1] + [image_token] * 64 + [100 + each for each in range(PROMPT)]])
        mask = torch.ones_like(tokens)
        return {"input_ids": tokens, "attention_mask": mask, "pixel_values": pixels[:, None]}

    return SmolVLMForConditionalGeneration(config), 512, inputs


def of_transformers(name: str, tokens: int) -> dict[str, Callable[[], object]]:
    from captionloop.images import load_square

    model, size, inputs = blip() if name == "BLIP base" else smolvlm()
    model.eval()
    data = photo()

    def caption(beams: int) -> object:
        square = torch.tensor(load_square(data, size)).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.inference_mode():
            return model.generate(
                **inputs(square),
                num_beams=beams,
                do_sample=False,
                min_new_tokens=tokens,
                max_new_tokens=tokens,
            )

    weights = sum(each.numel() for each in model.parameters())
    print(f"{name}: {weights / 1e6:.0f} million weights", file=sys.stderr)
    return {"greedy": lambda: caption(1), "beam 5": lambda: caption(5)}


def of_ours(tokens: int) -> dict[str, Callable[[], object]]:
    """The demo's captioner: `resnet10` to `layer3` at 128 px, `show_attend_tell` of 256, over more words."""
    from captionloop.captioner.captioner import Captioner
    from captionloop.captioner.decoders import build_decoder
    from captionloop.captioner.model_config import DecodingOptions, ShowAttendTellConfig
    from captionloop.tokenizer import CaptionTokenizer
    from captionloop.vision.encoder import Encoder, EncoderSpec

    torch.manual_seed(0)
    encoder = Encoder.build(EncoderSpec(architecture="resnet10", input_size=128, layer="layer3"))
    tokenizer = CaptionTokenizer.train([" ".join(f"w{number}" for number in range(WORDS))])
    config = ShowAttendTellConfig(embedding=256, hidden=256, attention_size=128)
    decoder = build_decoder(config, vocabulary_size=tokenizer.vocabulary_size, channels=encoder.channels)
    captioner = Captioner("ours", encoder, decoder, tokenizer, device="cpu")
    data = photo()

    def caption(beams: int) -> object:
        options = DecodingOptions(beam_width=beams, min_length=tokens, max_length=tokens)
        return captioner.caption([data], options)

    return {"greedy": lambda: caption(1), "beam 5": lambda: caption(5)}


def in_this_process(name: str, tokens: int, rounds: int) -> dict[str, float]:
    ways = of_ours(tokens) if name == "captionloop" else of_transformers(name, tokens)
    found = {}
    for way, run in ways.items():
        run()
        seconds, spent = [], []
        for _ in range(rounds):
            began, used = time.perf_counter(), time.process_time()
            run()
            seconds.append(time.perf_counter() - began)
            spent.append(time.process_time() - used)
        found[way], found[f"{way}, CPU"] = statistics.median(seconds), statistics.median(spent)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {**found, "peak": float(peak)}


def main(arguments: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tokens", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", choices=MODELS, help="measure one, in this process")
    chosen = parser.parse_args(arguments)
    if chosen.model:
        print(json.dumps(in_this_process(chosen.model, chosen.tokens, chosen.rounds)))
        return {}
    found = {}
    print(f"One photo, from JPEG bytes to {chosen.tokens} tokens, float32, {torch.get_num_threads()} threads")
    head = "".join(f"  {name:>10}" for name in ("greedy, s", "of CPU", "beam 5, s", "of CPU", "peak, MiB"))
    print(f"  {'':14}{head}")
    for name in MODELS:
        command = [sys.executable, "-m", "benchmarks.pretrained_shapes", "--model", name]
        command += ["--tokens", str(chosen.tokens), "--rounds", str(chosen.rounds)]
        ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        row = found[name] = json.loads(ran.stdout.splitlines()[-1])
        columns = ("greedy", "greedy, CPU", "beam 5", "beam 5, CPU")
        cells = "".join(f"  {row[column]:10.3f}" for column in columns)
        print(f"  {name:14}{cells}  {row['peak'] / 2**20:10.0f}", flush=True)
    assert np.isfinite([value for row in found.values() for value in row.values()]).all()
    return found


if __name__ == "__main__":
    main()
