import pickle
import subprocess
import sys

import numpy as np

from captionloop.vision.photo_keys import KEY_BYTES, KeyIndex

FIND = """
import pickle, sys
index, keys = pickle.load(sys.stdin.buffer)
print(*index.find(keys))
"""


def test_an_index_finds_its_keys_in_another_process_too() -> None:
    """Hashes differ from process to process: once none of its photos had features in the next."""
    keys = np.random.default_rng(0).integers(0, 256, (20, KEY_BYTES), np.uint8)
    index = KeyIndex.of([(keys[:15], np.arange(15))])
    here = index.find(keys)
    assert (here[:15] >= 0).all() and (here[15:] == -1).all()
    there = subprocess.run(
        [sys.executable, "-c", FIND], input=pickle.dumps((index, keys)), stdout=subprocess.PIPE, check=True
    )
    assert [int(each) for each in there.stdout.split()] == here.tolist()
