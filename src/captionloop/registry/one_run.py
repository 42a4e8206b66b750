"""Several pipeline runs that are one MLflow run: they are given the same name, kept as a tag."""

from captionloop.errors import RegistryError
from captionloop.registry import connection

TAG = "captionloop.run"


def find_run(tracking_uri: str, name: str) -> str | None:
    """Id of the first MLflow run of this name in any experiment; None where there is none.

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
    return str(found[0].info.run_id) if found else None


def find_or_begin_run(tracking_uri: str, experiment: str, name: str) -> str:
    """Id of the MLflow run of this name; begun in `experiment`, which exists, where there is none yet.

    Raises `RegistryError` where the store cannot be reached.
    """
    found = find_run(tracking_uri, name)
    if found is not None:
        return found
    with connection.for_people(f"begin the MLflow run {name}"):
        client = connection.connect(tracking_uri)
        known = client.get_experiment_by_name(experiment)
        if known is None:
            raise RegistryError(f"There is no MLflow experiment {experiment} to begin the run {name} in")
        begun = client.create_run(known.experiment_id, run_name=name, tags={TAG: name})
    return str(begun.info.run_id)
