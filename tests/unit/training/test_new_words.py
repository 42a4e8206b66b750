import pandas as pd
import pytest
import torch
from decoders_for_tests import CHANNELS, CONFIGS, loud_decoder

from captionloop.tokenizer import CaptionTokenizer
from captionloop.training.train_captioner import NewWordInit, init_new_words

OLD_WORDS = ["boat", "car", "duck", "kite", "tree"]
TOKENIZER = CaptionTokenizer.train([" ".join(OLD_WORDS)]).extended(["guitar guitars lamp"])
GUITAR, LAMP = (TOKENIZER.words.index(word) for word in ("guitar", "lamp"))


def extended_decoder(name: str):
    decoder = loud_decoder(name)
    decoder.extend_vocabulary(TOKENIZER.vocabulary_size)
    return decoder


def table(weights: dict[str, torch.Tensor], strength: float = 1.0) -> NewWordInit:
    rows = {"concept": list(weights), "weights": [row.tolist() for row in weights.values()]}
    return NewWordInit(pd.DataFrame(rows), strength)


def led_by_the_photo(decoder) -> torch.Tensor:
    """What each word's score gains from each channel."""
    return (decoder.words.scores @ decoder.output_context.weight).detach()


def seen(decoder, strength: float = 2.0) -> dict[str, torch.Tensor]:
    """A classifier that looks for the known words as the decoder does, though less strongly."""
    led = led_by_the_photo(decoder)
    return {word: led[TOKENIZER.words.index(word)] / strength for word in OLD_WORDS}


def test_new_words_are_led_to_where_the_classifier_sees_them_times_as_strongly_as_known_ones():
    decoder = extended_decoder("show_attend_tell")
    weights = seen(decoder)
    guitar, stem = torch.randn(2, CHANNELS, generator=torch.Generator().manual_seed(5))
    before, size = led_by_the_photo(decoder), decoder.words.scores.clone()
    weights_of_all = weights | {"guitar": guitar, "guitar|guitars": stem}
    init_new_words(decoder, TOKENIZER, 9, table(weights_of_all, strength=1.5))
    moved = led_by_the_photo(decoder) - before
    average = torch.stack(list(weights.values())).mean(0)
    torch.testing.assert_close(moved[GUITAR], 1.5 * 2 * ((guitar + stem) / 2 - average), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(moved[GUITAR + 1], 1.5 * 2 * (stem - average), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decoder.words.scores[:9], size[:9])
    torch.testing.assert_close(decoder.words.scores[LAMP], size[LAMP])


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in {"show_attend_tell", "ensemble"}])
def test_decoders_without_a_direct_path_from_features_to_words_stay_as_they_are(name):
    decoder = extended_decoder(name)
    before = {key: weight.clone() for key, weight in decoder.state_dict().items()}
    init_new_words(decoder, TOKENIZER, 9, table(seen(extended_decoder("show_attend_tell"))))
    for key, weight in decoder.state_dict().items():
        torch.testing.assert_close(weight, before[key])


def test_in_an_ensemble_every_member_that_can_be_is_led():
    ensemble = extended_decoder("ensemble")
    member = ensemble.decoders[0]
    before = led_by_the_photo(member)
    weights = seen(member) | {"lamp": torch.ones(CHANNELS)}
    init_new_words(ensemble, TOKENIZER, 9, table(weights))
    changed = (led_by_the_photo(member) - before).abs().sum(1) > 1e-3
    assert changed.nonzero().flatten().tolist() == [LAMP]


@pytest.mark.parametrize("weights", [{}, {"lamp": torch.ones(CHANNELS)}], ids=["nothing", "nothing known"])
def test_without_known_words_to_go_by_nothing_is_moved(weights):
    decoder = extended_decoder("show_attend_tell")
    before = led_by_the_photo(decoder)
    init_new_words(decoder, TOKENIZER, 9, table(weights))
    torch.testing.assert_close(led_by_the_photo(decoder), before)


def test_words_that_the_classifier_contradicts_among_the_known_lead_nowhere():
    decoder = extended_decoder("show_attend_tell")
    before = led_by_the_photo(decoder)
    weights = seen(decoder, strength=-1.0) | {"lamp": torch.ones(CHANNELS)}
    init_new_words(decoder, TOKENIZER, 9, table(weights))
    torch.testing.assert_close(led_by_the_photo(decoder), before)
