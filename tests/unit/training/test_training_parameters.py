from captionloop.captioner.model_config import DecodingOptions, ShowAndTellConfig
from captionloop.languages import ENGLISH, language_of
from captionloop.training.training_parameters import CrossEntropyParameters, SelfCriticalParameters, in_tokens


def test_lengths_are_said_in_words_and_kept_in_characters_where_there_are_no_spaces():
    parameters = CrossEntropyParameters(
        decoder=ShowAndTellConfig(embedding=8, hidden=8),
        max_length=20,
        decoding=DecodingOptions(max_length=24, no_repeat_ngram=3),
    )
    assert in_tokens(parameters, ENGLISH) is parameters
    assert in_tokens(parameters, language_of("fr")) is parameters
    chinese = in_tokens(parameters, language_of("zh"))
    assert chinese.max_length == 32
    assert (chinese.decoding.max_length, chinese.decoding.no_repeat_ngram) == (39, 5)
    assert in_tokens(SelfCriticalParameters(), language_of("th")).max_length == 96


def test_no_caption_is_longer_than_a_bundle_may_say():
    long = SelfCriticalParameters(decoding=DecodingOptions(max_length=150))
    decoding = in_tokens(long, language_of("th")).decoding
    assert DecodingOptions.model_validate(decoding.model_dump()).max_length == 200
