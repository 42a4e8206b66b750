import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "deploy"))
from hpa_simulation import Pod, Scaler, play, read, wanted

POD = Pod(rate=10, start_seconds=30)


@pytest.mark.parametrize(
    ("pods", "now", "target", "expected"),
    [(3, 200, 100, 6), (4, 50, 100, 2), (4, 109, 100, 4), (4, 111, 100, 5), (1, 0, 100, 0)],
)
def test_the_formula_is_that_of_kubernetes_documentation(
    pods: int, now: float, target: float, expected: int
) -> None:
    assert wanted(pods, now, target) == expected


def test_what_two_pods_can_do_is_left_to_two_pods() -> None:
    course = play([14.0] * 900, Scaler(), POD)
    assert set(course.pods) == {2} and max(course.waiting) == 0


def test_a_queue_scales_sooner_than_cpu_for_a_busy_cpu_cannot_tell_how_much_is_missing() -> None:
    load = [5.0] * 300 + [60.0] * 900
    cpu, queue = (play(load, Scaler(queued=queued), POD) for queued in (0, 16))
    assert max(queue.waiting) < max(cpu.waiting)
    assert queue.waiting[-1] == cpu.waiting[-1] == 0
    assert max(queue.pods) == 8


def test_pods_double_at_most_and_go_only_after_five_quiet_minutes() -> None:
    load = [5.0] * 60 + [100.0] * 60 + [0.0] * 900
    course = play(load, Scaler(highest=8), POD)
    first = next(second for second, pods in enumerate(course.pods) if pods > 2)
    assert course.pods[first] <= 4 and first >= 60 + POD.start_seconds
    busy_until = max(second for second, wait in enumerate(course.waiting) if wait)
    fewer = next(s for s in range(busy_until, len(load)) if course.pods[s] < course.pods[s - 1])
    assert fewer - busy_until >= 300 - 15


def test_a_recording_is_read_second_by_second(tmp_path: Path) -> None:
    file = tmp_path / "load.csv"
    file.write_text("0,1.5\n15,3\n30,0\n")
    assert read(file, 2) == [3.0] * 15 + [6.0] * 15
