"""What goes through the pipe to a version that is tried."""

from hypothesis import given
from hypothesis import strategies as st

from captionloop.serving.schemas import PreparedImage
from captionloop.serving.trial_process import pack_images, unpack_images


@given(st.lists(st.tuples(st.integers(0, 999), st.binary(max_size=40)), max_size=5))
def test_images_come_out_as_they_went_in(images: list[tuple[int, bytes]]) -> None:
    sent = [PreparedImage(size=size, pixels=pixels) for size, pixels in images]
    assert unpack_images(pack_images(sent)) == sent
