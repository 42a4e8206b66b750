"""A small image-text model of the transformers package with random weights, for a corpus; in a folder.

python -m benchmarks.model_from_nothing                  # of the sample scenes, which must have been drawn
kedro run --env from_nothing                             # learns all of it
python -m benchmarks.model_from_nothing --taught data/06_models/sample_scenes/pretrained \\
    --folder data/01_raw/taught_model                    # what has learnt, as if others had trained it

A ViT of 8 x 8 patches and a GPT-2 that attends to it, about 2 million weights together. The tokenizer is a
byte-level BPE of the training captions. It needs the extra `captionloop[transformers]`.
"""

import argparse
import copy
import json
from collections.abc import Sequence
from pathlib import Path

import torch

SIDE = 128
MARKS = ("<s>", "<pad>", "</s>")
PIXELS = "preprocessor_config.json"


def training_captions(file: Path) -> list[str]:
    """The captions of the training split in a file of the Karpathy format."""
    photos = json.loads(file.read_text(encoding="utf-8"))["images"]
    return [each["raw"] for photo in photos if photo["split"] == "train" for each in photo["sentences"]]


def make_model(texts: Sequence[str], folder: Path, *, seed: int = 0) -> int:
    """Writes the model into `folder`; how many weights it has."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        GPT2Config,
        PreTrainedTokenizerFast,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
    )

    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    pieces.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, min_frequency=2, special_tokens=list(MARKS), initial_alphabet=alphabet
    )
    pieces.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces, bos_token="<s>", pad_token="<pad>", eos_token="</s>"
    )
    tower = ViTConfig(
        hidden_size=64, num_hidden_layers=6, num_attention_heads=2, intermediate_size=192, image_size=SIDE,
        patch_size=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    text = GPT2Config(
        vocab_size=len(tokenizer), n_embd=192, n_layer=2, n_head=3, n_positions=64, add_cross_attention=True,
        bos_token_id=0, pad_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = VisionEncoderDecoderModel(VisionEncoderDecoderConfig.from_encoder_decoder_configs(tower, text))
    generation = model.generation_config
    generation.decoder_start_token_id, generation.pad_token_id, generation.eos_token_id = 0, 1, 2
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    pixels = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": SIDE, "width": SIDE}}
    (folder / PIXELS).write_text(json.dumps(pixels))
    return sum(weight.numel() for weight in model.parameters())


def write_taught(bundle: Path, folder: Path) -> int:
    """Writes the captioner in a bundle as a model of the package into `folder`; how many weights it has.

    All of its text side must have learnt (`lora: null`): that is the base of whatever learns from now on.
    """
    from captionloop.captioner.captioner import Captioner
    from captionloop.captioner.pretrained.pretrained_decoder import PretrainedDecoder

    decoder = Captioner.load(bundle, device="cpu").decoder
    if not isinstance(decoder, PretrainedDecoder) or decoder.config.lora is not None:
        raise SystemExit(f"{bundle}: a pre-trained model is needed whose whole text side learnt (lora: null)")
    base, model = decoder.base, copy.deepcopy(decoder.base.model)
    model.decoder.load_state_dict(decoder.text.decoder.state_dict())
    if decoder.text.project is not None:
        model.enc_to_dec_proj.load_state_dict(decoder.text.project.state_dict())
    model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    (folder / PIXELS).write_bytes((base.folder / PIXELS).read_bytes())
    return sum(weight.numel() for weight in model.parameters())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--captions", type=Path, default=Path("data/01_raw/sample_scenes/captions.json"))
    parser.add_argument("--folder", type=Path, default=Path("data/01_raw/model_from_nothing"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--taught", type=Path, metavar="BUNDLE", help="write what this one learnt")
    chosen = parser.parse_args(arguments)
    if chosen.taught is not None:
        weights = write_taught(chosen.taught, chosen.folder)
        print(f"{chosen.folder}: {weights / 1e6:.1f} million weights, taught")
        return
    weights = make_model(training_captions(chosen.captions), chosen.folder, seed=chosen.seed)
    print(f"{chosen.folder}: {weights / 1e6:.1f} million weights, random")


if __name__ == "__main__":
    main()
