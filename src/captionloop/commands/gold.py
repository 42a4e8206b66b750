"""`captionloop gold`: photos of the corpus that people are shown to rate, to learn whom to believe."""

import click

from captionloop.commands.model_lookup import Catalog
from captionloop.config import project_folder, read_configuration
from captionloop.errors import ConfigurationError
from captionloop.feedback.feedback_parameters import FeedbackParameters
from captionloop.feedback.gold_items import add_gold_items, choose_gold_items
from captionloop.languages import language_of
from captionloop.photos import PhotoArchive
from captionloop.ratings.rating_store import open_store
from captionloop.serving.logs import by_command
from captionloop.serving.service_settings import Settings


@click.command()
@click.argument("count", type=click.IntRange(2, 10_000))
@click.option("--env", help="Kedro environment whose corpus is meant.")
@click.option("--seed", default=0, show_default=True, help="Of the choice.")
def gold(count: int, env: str | None, seed: int) -> None:
    """Have so many gold items: captions of the corpus's photos, half of them right.

    They are added to the ratings database and the photo archive that CAPTIONLOOP_DATABASE and
    CAPTIONLOOP_PHOTOS name, and the service shows them among other people's captions (Rate a few more).
    Those that are there stay.
    """
    project, settings = project_folder(), Settings.from_environment()
    catalog, parameters = Catalog(project, env), read_configuration(project, env)["parameters"]
    images, captions = catalog.load("base_images"), catalog.load("base_captions")
    photos = catalog.load("base_photos")
    if images is None or captions is None or photos is None:
        raise ConfigurationError(
            f"there is no corpus in {catalog.location('base_images').parent}: run "
            "kedro run --pipelines data_validation first"
        )
    store = open_store(settings.database_url, is_embedded=settings.embedded_database)
    try:
        existing = store.gold_photos()
        chosen = choose_gold_items(
            images[~images["sha256"].isin(existing)],
            captions,
            max(0, count - len(existing)),
            FeedbackParameters.model_validate(parameters["feedback"]),
            seed=seed,
            language=language_of(parameters["language"]),
        )
        with by_command("gold", str(count)):
            add_gold_items(chosen, photos.read, store, PhotoArchive(settings.photo_root))
    finally:
        store.close()
    click.echo(f"{len(chosen)} gold items added; there are {len(existing) + len(chosen)}.")
