import copy
import pickle

from pydantic import BaseModel, Field

from captionloop.provenance.code_versions import WHOLE, result_affecting, tracked_parameters, values_at


class Inner(BaseModel):
    model_config = {"frozen": True}

    width: int = 3
    name: str = "beam"

    def doubled(self) -> int:
        return 2 * self.width


class Outer(BaseModel):
    model_config = {"frozen": True}

    inner: Inner = Inner()
    rate: float = 0.5
    views: tuple[str, ...] = ("whole",)
    threads: int = Field(default=4, json_schema_extra={"affects_result": False})


def reads_of(use) -> set[str]:
    read: set[str] = set()
    use(tracked_parameters(Outer(), read.add))
    return read


def test_fields_are_noted_when_they_are_read():
    assert reads_of(lambda given: given.inner) == set()
    assert reads_of(lambda given: given.inner.width) == {"inner.width"}
    assert reads_of(lambda given: (given.rate, given.views)) == {"rate", "views"}
    assert reads_of(lambda given: given.inner.doubled()) == {"inner.width"}


def test_whoever_takes_the_whole_has_read_all():
    for take in (
        lambda given: given.model_dump(),
        lambda given: given.model_dump_json(),
        lambda given: given.model_copy(update={"rate": 1.0}),
        dict,
        pickle.dumps,
        copy.deepcopy,
        hash,
        lambda given: given == Outer(),
    ):
        assert WHOLE in reads_of(take), take
    assert reads_of(lambda given: given.inner.model_dump()) == {"inner"}


def test_it_is_as_the_model_that_was_asked_for():
    given = tracked_parameters(Outer(rate=0.7), set().add)
    assert isinstance(given, Outer) and given == Outer(rate=0.7) and Outer(rate=0.7) == given
    assert hash(given.inner.name) == hash("beam") and hash(given) == hash(Outer(rate=0.7))
    assert type(pickle.loads(pickle.dumps(given))) is Outer
    assert given.model_copy(update={"rate": 0.5}) == Outer()
    assert Outer.model_validate(given).model_dump() == Outer(rate=0.7).model_dump()


def test_what_does_not_affect_the_result_never_counts():
    assert "threads" not in result_affecting(Outer())
    assert values_at(Outer(), frozenset({"threads", "rate"})) == {"rate": 0.5}
    assert values_at(Outer(), frozenset({WHOLE})) == {
        "inner.width": 3, "inner.name": "beam", "rate": 0.5, "views": ["whole"],
    }  # fmt: skip


def test_a_path_that_is_gone_has_no_value():
    assert values_at(Outer(), frozenset({"inner.depth", "inner.width.x"})) == {}
    assert values_at({"a": {"b": 1}}, frozenset({WHOLE})) == {"a.b": 1}
