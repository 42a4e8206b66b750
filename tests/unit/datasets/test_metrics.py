from captionloop.datasets.metrics import RunMetricsDataset


def test_metrics_of_an_earlier_run_do_not_make_its_work_look_unfinished() -> None:
    assert RunMetricsDataset(prefix="encoder").exists()
