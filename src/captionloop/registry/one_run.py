"""Several pipeline runs that are one MLflow run: they are given the same name, kept as a tag."""

from dataclasses import dataclass

from captionloop.errors import RegistryError
from captionloop.registry import connection

TAG = "captionloop.run"


@dataclass(frozen=True)
class NamedRun:
    """An MLflow run: its id, and where its page is below MLflow's address."""

    run_id: str
    page: str


def find_run(tracking_uri: str, name: str) -> NamedRun | None:
    """The first MLflow run of this name in any experiment; None where there is none.

    Raises `RegistryError` where the store cannot be reached.
    """
    if not connection.exists(tracking_uri):
        return None
    with connection.for_people(f"look for the MLflow run {name}"):
        client = connection.connect(tracking_uri)
        experiments = [each.experiment_id for each in client.search_experiments()]
        found = client.search_runs(
            experiments, f"tags.`{TAG}` = '{name}'", max_results=1, order_by=["attributes.start_time ASC"]
        )
    if not found:
        return None
    info = found[0].info
    return NamedRun(info.run_id, f"/#/experiments/{info.experiment_id}/runs/{info.run_id}")


def find_or_begin_run(tracking_uri: str, experiment: str, name: str) -> str:
    """Id of the MLflow run of this name; begun in `experiment`, which exists, where there is none yet.

    Raises `RegistryError` where the store cannot be reached.
    """
    found = find_run(tracking_uri, name)
    if found is not None:
        return found.run_id
    with connection.for_people(f"begin the MLflow run {name}"):
        client = connection.connect(tracking_uri)
        known = client.get_experiment_by_name(experiment)
        if known is None:
            raise RegistryError(f"There is no MLflow experiment {experiment} to begin the run {name} in")
        begun = client.create_run(known.experiment_id, run_name=name, tags={TAG: name})
    return str(begun.info.run_id)
