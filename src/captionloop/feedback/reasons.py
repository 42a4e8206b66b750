"""Why a rating is in quarantine, in words for people."""

from typing import Final


class Reason:
    """Each is shown in the report and on the Data Docs."""

    STARS: Final = "its stars are not 1 to 5"
    NO_RATER: Final = "nobody is named as its rater"
    NO_CAPTION: Final = "the caption it is about is empty"
    NO_PHOTO: Final = "its photo is not named by a SHA-256"
    TWICE: Final = "another rating has its number"
    TOO_LONG: Final = "its correction is too long"
    TIME: Final = "it was changed before it was given, or in the future"
    ERASED: Final = "its photo was erased"
    PHOTO_MISSING: Final = "its photo is not in the archive"
    PHOTO_BROKEN: Final = "its photo cannot be decoded, or is too large or too small"
    CAP: Final = "its rater had rated as much as one may in a day"
    BURST: Final = "it is one of many ratings given faster than a person can look"
    ABUSE: Final = "its correction holds a word of the list of abuse"
    NOT_A_CAPTION: Final = "its correction is no sentence about a photo"
    COPY: Final = "nearly the same correction was given for too many photos"
    CONTRADICTION: Final = "it praises the caption, and corrects it to something that has nothing of it"
    UNRELIABLE: Final = "its rater disagrees with other people and with photos that are known"


STRIKES: Final = (Reason.BURST, Reason.ABUSE, Reason.NOT_A_CAPTION, Reason.COPY)
"""What speaks against the rater, not only against the row."""
