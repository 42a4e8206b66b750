"""What captions name, beside what is in the scene."""

from captionloop.corpus.scenes import DOMAINS, SAMPLE, Facts, Group, SceneParameters, draw_scenes
from captionloop.corpus.scenes.scene_captions import untrue

SCENE = Facts(
    place="beach",
    light="night",
    arrangement="in front of",
    groups=(
        Group("car", 1, "white", "plain", "medium", "ground"),
        Group("boat", 1, "red", "plain", "medium", "ground"),
    ),
    extras=("clouds",),
)


def test_what_people_say_of_a_scene_is_true_of_it():
    for domain in ("sample", "shifted"):
        for scene in draw_scenes(SceneParameters(domain=domain, train=150, val=0, test=0, side=32)):
            for caption in scene.captions:
                assert untrue(DOMAINS[domain], scene.facts, caption) == (), (caption, scene.facts)


def test_what_is_not_there_is_named():
    caption = "a big white car in front of a white boat on the grass at sunset"
    assert untrue(SAMPLE, SCENE, caption) == ("on the grass", "at sunset", "a big white car", "a white boat")


def test_a_colour_belongs_to_its_thing():
    assert untrue(SAMPLE, SCENE, "a red car next to a white boat") == ("a red car", "a white boat")
    assert untrue(SAMPLE, SCENE, "a car and a red boat") == ()


def test_numbers_are_counted():
    assert untrue(SAMPLE, SCENE, "two white cars on the sand under the clouds") == ("two white cars",)


def test_a_green_field_is_a_place_and_no_thing():
    assert untrue(SAMPLE, SCENE, "a car in a green field") == ("in a green field",)
