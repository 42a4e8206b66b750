import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captionloop.captioner.decoders.base import BOS, EOS, PackedCaptions

captions_of_images = st.lists(
    st.tuples(st.lists(st.integers(4, 30), max_size=6), st.integers(0, 3)), min_size=1, max_size=9
)


@settings(max_examples=30, deadline=None)
@given(captions_of_images)
def test_every_word_is_one_position_and_nothing_else_is(rows):
    captions, image = zip(*rows, strict=True)
    packed = PackedCaptions.pack(captions, image)
    assert sum(packed.batch_sizes) == sum(len(caption) + 1 for caption in captions) == len(packed.targets)
    assert list(packed.batch_sizes) == sorted(packed.batch_sizes, reverse=True)
    inputs, targets = packed.padded(packed.inputs), packed.padded(packed.targets)
    for row, which in enumerate(packed.order.tolist()):
        length = len(captions[which]) + 1
        assert inputs[row, :length].tolist() == [BOS, *captions[which]]
        assert targets[row, :length].tolist() == [*captions[which], EOS]
        assert packed.image[row] == image[which]


@settings(max_examples=30, deadline=None)
@given(captions_of_images)
def test_rows_laid_out_by_image_come_back_as_they_were(rows):
    captions, image = zip(*rows, strict=True)
    packed = PackedCaptions.pack(captions, image, images=4)
    for running in set(packed.batch_sizes):
        values = torch.randn(running, 2)
        dense = packed.per_image(values)
        assert dense.shape == (4, packed.captions_per_image, 2)
        assert torch.equal(packed.per_row(dense, running), values)


def test_packed_is_the_inverse_of_padded():
    packed = PackedCaptions.pack([[4, 5], [6]], [0, 0])
    values = torch.randn(5, 3)
    assert torch.equal(packed.packed(packed.padded(values)), values)


def test_weights_follow_their_captions():
    packed = PackedCaptions.pack([[4], [4, 5, 6], [4, 5]], [0, 1, 2], [0.1, 0.2, 0.3])
    assert torch.equal(packed.weight, torch.tensor([0.2, 0.3, 0.1]))
