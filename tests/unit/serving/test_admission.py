"""What is let in: places, bytes, and one caller's share of both."""

import pytest

from captionloop.serving.gateway.problems import Problem
from captionloop.serving.gateway.uploads import Admission


def test_bytes_are_held_as_they_arrive_and_let_go_at_the_end() -> None:
    admission = Admission(4, upload_memory=100, largest_body=50)
    with admission.upload("a") as one, admission.upload("b") as two:
        one.arrived(30)
        one.arrived(20)
        with pytest.raises(Problem) as refused:
            one.arrived(1)  # one caller's share
        assert (refused.value.status_code, refused.value.kind.name) == (503, "overloaded")
        two.arrived(50)
        with admission.upload("c") as three, pytest.raises(Problem):
            three.arrived(1)  # all memory
    with admission.upload("c") as three:
        three.arrived(50)


def test_a_caller_who_sends_nothing_takes_nothing_from_others() -> None:
    admission = Admission(4, upload_memory=100, largest_body=50)
    with admission.upload("idle"), admission.upload("idle"):
        with pytest.raises(Problem), admission.upload("idle"):
            pass
        with admission.upload("honest") as upload, admission.acquire():
            upload.arrived(50)
    with admission.upload("idle"), admission.upload("idle"):
        pass


def test_places_are_counted_and_told_when_to_come_again() -> None:
    admission = Admission(1, upload_memory=100)
    with admission.acquire():
        assert admission.under_way == 1
        with pytest.raises(Problem) as refused, admission.acquire():
            pass
        assert int((refused.value.headers or {})["Retry-After"]) >= 1
    with admission.acquire():
        pass
