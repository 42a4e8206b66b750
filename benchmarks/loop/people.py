"""Simulated people at the service's own queue: each rates what it shows them."""

import random
from itertools import cycle, islice

from captionloop.feedback.simulation import SimulatedItem, SimulatedQuality, SimulatedRaters
from captionloop.ratings.rating_queue import RatingQueue
from captionloop.ratings.rating_store import RatingsStore

GOLD = 0.15
"""Of what somebody is shown who is known, as the service's setting is by default."""
MOST_TURNS = 20
"""So many times as often as there are to be ratings does somebody come by at most."""
FRESH = "person:fresh-"


def is_harmful(people: SimulatedRaters, rater: str) -> bool:
    """Whether a rater is one of the colluders, under whatever name."""
    return rater.startswith(FRESH) or rater in set(people.colluders())


def rate_from_queue(
    store: RatingsStore,
    people: SimulatedRaters,
    taste: SimulatedQuality,
    gold: dict[str, SimulatedItem],
    sent: dict[str, SimulatedItem],
    ratings: int,
    round_number: int,
) -> int:
    """People come by in turn until there are so many ratings of what was sent; how many ratings there are,
    those of gold items, and all of whoever floods, counted.

    `gold` and `sent` are what the queue may show, by caption id. Who is honest rates from a network of their
    own; the colluders are one.
    """
    items = gold | sent
    shares = dict(zip(items, taste.share(list(items.values())), strict=True))
    others = list(sent.values())
    rng = random.Random(f"people/{people.seed}/{round_number}")
    queue = RatingQueue(store.reader, store.writer, GOLD, rng.random)
    colluders, given, of_sent = set(people.colluders()), 0, 0
    for number, name in enumerate(islice(cycle(people.names()), MOST_TURNS * ratings)):
        if of_sent >= ratings:
            break
        bad, was_gold = name in colluders, False
        for again in range(people.flood if bad else 1):
            rater = f"{FRESH}{round_number}-{number}-{again}" if bad and people.fresh else name
            offered = queue.following(rater)
            if offered is None or not queue.offer(offered.caption_id, rater).result(30):
                continue
            one, was_gold = items[offered.caption_id], offered.caption_id in gold
            rating = people.rating(name, one, shares[offered.caption_id], others, rng)
            block = "colluders" if bad else f"network of {name}"
            store.rate(offered.caption_id, rater, rating, block).result(30)
            given += 1
        of_sent += not was_gold
    return given
