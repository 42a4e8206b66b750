"""A training run as a process of its own: `python training_process.py FOLDER [PROCESSES [BATCH]]`."""

import hashlib
import json
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from corpus_for_tests import draw_corpus, small_training

from captionloop.training.train_captioner import train


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    devices = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    changes: dict[str, object] = {}
    if len(sys.argv) > 3:  # to be compared with other numbers of processes, which drop other things
        sizes = {"embedding": 24, "hidden": 24, "attention_size": 16}
        changes = {
            "batch_size": int(sys.argv[3]),
            "decoder": {"kind": "show_attend_tell", "dropout": 0, **sizes},
        }
    settings = small_training(
        epochs=5, processes={"accelerator": "cpu", "devices": devices}, validation={"patience": 10}, **changes
    )
    corpus = draw_corpus()
    checkpoints = Path(sys.argv[1])
    trained = train(corpus.images, corpus.captions, corpus.features, settings, checkpoints=checkpoints)
    digest = hashlib.sha256()
    for name, weight in trained.decoder.state_dict().items():
        digest.update(name.encode() + weight.numpy().tobytes())
    curves = trained.curves.to_frame().drop(columns="seconds").to_dict("list")
    print(json.dumps({"weights": digest.hexdigest(), "curves": curves}))


if __name__ == "__main__":
    main()
