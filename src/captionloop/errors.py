"""The errors that captionloop raises for people to read.

Every message says what was wrong, where, and what to do, on one line. They are raised where the fault is
known and shown once, at the edge: by the command line, by the Kedro hook, or as a problem document by the
gateway. Anything that is not a `CaptionloopError` is a defect of ours and keeps its traceback.
"""

import os
import re

_PASSWORD_IN_ADDRESS = re.compile(r"(://[^\s:/@]*):\S+@")
_PASSWORD_IN_OPTION = re.compile(r"(?i)\b((?:ssl)?password|passwd|pwd|secret|token|sig)=[^\s&;,'\"]+")


def without_passwords(text: str) -> str:
    """The text with `***` where an address in it (`scheme://user:password@host`, `?password=...`) has a
    secret.
    """
    if "://" not in text and "=" not in text:
        return text
    return _PASSWORD_IN_OPTION.sub(r"\1=***", _PASSWORD_IN_ADDRESS.sub(r"\1:***@", text))


def reason_of(error: BaseException) -> str:
    """Why something failed, in words that hold nothing of what was being worked on: what the operating
    system says, or else only the kind of error. The messages of libraries quote their arguments.
    """
    if isinstance(error, OSError) and error.errno:
        return f"{type(error).__name__}: {os.strerror(error.errno)}"
    return type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its kind where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def in_a_line(error: BaseException) -> str:
    """An error's message on one line, 200 characters at most; its kind where it has none."""
    return " ".join(str(error).split())[:200] or type(error).__name__


class CaptionloopError(Exception):
    """Base of all errors whose cause lies in what captionloop was given."""


class ConfigurationError(CaptionloopError):
    """A parameter or setting has a value that cannot be used."""


class CorpusError(CaptionloopError):
    """Photos or captions are missing, unreadable, or break the rules of a corpus."""


class ImageError(CaptionloopError):
    """One image cannot be decoded, or is larger than we are willing to decode."""


class ImageLimitError(ImageError):
    """One image is sound as far as we looked, and larger than we are willing to decode."""


class EncoderError(CaptionloopError):
    """An encoder is unknown, or weights do not belong to it."""


class TrainingError(CaptionloopError):
    """A training cannot go on: its loss or its weights are no numbers, or one of its processes is gone."""


class StoreError(CaptionloopError):
    """The feature store cannot be read or written."""


class BundleError(CaptionloopError):
    """A bundle on disk is incomplete, damaged, or of a format that this version does not read."""


class ScoringError(CaptionloopError):
    """Hypotheses and references do not go together, or a metric cannot be computed."""


class RegistryError(CaptionloopError):
    """A model version, alias or evaluation that was asked for does not exist or cannot be used."""


class SignatureError(RegistryError):
    """A bundle is not signed, not by a trusted key, or is not what was signed."""
