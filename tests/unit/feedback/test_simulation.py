from captionloop.feedback.simulation import ABUSE, SimulatedItem, SimulatedQuality, SimulatedRaters

REFERENCES = [
    ("a red dog runs on the beach", "the red dog runs along a beach", "a dog on the beach"),
    ("two blue cups on a table", "two cups on a wooden table", "a pair of blue cups on the table"),
    ("a green kite above the lake", "a kite flies over a lake", "green kite flying over the lake"),
]
CORPUS = {f"i{n}": texts for n, texts in enumerate(REFERENCES)}
GOOD = [SimulatedItem(f"g{n}", texts[0], texts) for n, texts in enumerate(REFERENCES)]
BAD = [SimulatedItem(f"b{n}", REFERENCES[(n + 1) % 3][0], texts) for n, texts in enumerate(REFERENCES)]


def test_people_like_what_they_could_have_said_themselves() -> None:
    shares = SimulatedQuality(CORPUS).share([*GOOD, *BAD])
    assert min(shares[:3]) > 0.5 > max(shares[3:])


def test_the_crowd_is_a_function_of_its_seed() -> None:
    shares = [1.0] * 6
    people = SimulatedRaters(raters=4, seed=3)
    assert people.rate([*GOOD, *BAD], shares, 20, 1) == people.rate([*GOOD, *BAD], shares, 20, 1)
    assert people.rate([*GOOD, *BAD], shares, 20, 1) != people.rate([*GOOD, *BAD], shares, 20, 2)


def test_honest_people_rate_what_they_see() -> None:
    shown = [*GOOD, *BAD]
    given = SimulatedRaters(raters=20, noise=0).rate(shown, SimulatedQuality(CORPUS).share(shown), 100, 1)
    stars = {name: [o.stars for _, caption, o in given if caption.startswith(name)] for name in "gb"}
    assert min(stars["g"]) >= 3 and max(stars["b"]) <= 2
    truths = {text for texts in REFERENCES for text in texts}
    assert {o.correction for *_, o in given} <= truths | {None}


def test_nobody_rates_a_caption_twice() -> None:
    given = SimulatedRaters(raters=3, colluding=0.4).rate([*GOOD, *BAD], [1.0] * 6, 60, 1)
    assert len({(rater, caption) for rater, caption, _ in given}) == len(given)


def test_colluders_flood_and_abuse() -> None:
    people = SimulatedRaters(raters=10, colluding=0.3)
    shown = [SimulatedItem(f"c{n}", "a text", REFERENCES[0]) for n in range(200)]
    given = people.rate(shown, [0.0] * 200, 100, 1)
    bad = [rating for rater, _, rating in given if rater in people.colluders()]
    assert len(bad) == people.flood * 30
    assert {rating.correction for rating in bad} <= {*ABUSE, people.praised, None}


def test_nothing_is_corrected_again_while_something_is_not() -> None:
    shown = [SimulatedItem(f"c{n}", "a text", REFERENCES[n % 3]) for n in range(60)]
    given = SimulatedRaters(raters=40).rate(shown, [0.0] * 60, 150, 1)
    corrected = [caption for _, caption, rating in given if rating.correction]
    assert 30 < len(corrected) == len(set(corrected)) < 60


def test_when_everything_is_corrected_people_begin_again() -> None:
    given = SimulatedRaters(raters=40, corrections=1.0).rate(GOOD, [1.0] * 3, 30, 1)
    assert len(given) > 20 and {caption for _, caption, _ in given} == {"g0", "g1", "g2"}
