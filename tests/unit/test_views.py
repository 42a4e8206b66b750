import pytest

from captionloop.errors import ConfigurationError
from captionloop.preprocessing import VIEWS, views_named


def test_an_unknown_view_is_answered_with_names_that_come_close() -> None:
    with pytest.raises(ConfigurationError, match="did you mean mirrored"):
        views_named(["whole", "mirored"])


@pytest.mark.parametrize("view", VIEWS.values(), ids=str)
def test_every_view_lies_within_the_photo(view: object) -> None:
    left, top, right, bottom = view.box(200, 100)
    assert 0 <= left < right <= 200 + 1e-9
    assert 0 <= top < bottom <= 100 + 1e-9
