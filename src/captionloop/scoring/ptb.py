"""The Penn Treebank tokenizer that all published caption scores go through."""

from collections.abc import Sequence

from captionloop.errors import ScoringError
from captionloop.scoring.java import JavaProgram, package_folder

SECONDS = 600.0


def tokenize(captions: Sequence[str]) -> list[str]:
    """Each caption in lower case, its tokens between single spaces, without punctuation, as pycocoevalcap
    does.

    Raises:
        ScoringError: the tokenizer failed, hung, or did not give one line for each caption.
    """
    from pycocoevalcap.tokenizer import ptbtokenizer

    arguments = ["-cp", ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR, "edu.stanford.nlp.process.PTBTokenizer"]
    arguments += ["-preserveLines", "-lowerCase"]
    # Any line break inside a caption, also those that only Unicode knows, would shift all that follow.
    lines = [" ".join(caption.split()) for caption in captions]
    with JavaProgram("The PTB tokenizer", arguments, package_folder("tokenizer")) as tokenizer:
        tokenized = tokenizer.answer(lines, seconds=SECONDS + len(lines) / 1000)
    if len(tokenized) != len(lines):
        raise ScoringError(
            f"The PTB tokenizer made {len(tokenized)} lines of {len(lines)} captions:"
            " one of them holds control characters."
        )
    punctuation = set(ptbtokenizer.PUNCTUATIONS)
    return [" ".join(token for token in line.split() if token not in punctuation) for line in tokenized]
