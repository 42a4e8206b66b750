"""Reading text and JSON so that every failure is one clear line."""

import json
from typing import Any

import fsspec

from captionloop.errors import CorpusError


def read_text(path: str) -> str:
    """A UTF-8 text file from a path or URI. Raises `CorpusError` where it is missing or not text."""
    try:
        with fsspec.open(path, "rb") as file:
            data: bytes = file.read()
        text = data.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise CorpusError(f"There is no file {path}: check the path, see docs/data.md") from error
    except UnicodeDecodeError as error:
        kind = "UTF-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "Latin-1 or another encoding"
        raise CorpusError(
            f"{path} is not UTF-8 text (byte {error.start}; it may be {kind}): save it as UTF-8"
        ) from error
    except OSError as error:
        raise CorpusError(f"{path} cannot be read ({error}): check the path, see docs/data.md") from error
    if text[1:2] == "\0" or text[:1] == "\0":
        raise CorpusError(f"{path} is not UTF-8 text (it may be UTF-16): save it as UTF-8")
    return text


def read_json_object(path: str) -> dict[str, Any]:
    """A JSON document whose root is an object. Raises `CorpusError` naming line and column."""
    try:
        document = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        else:
            where = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise CorpusError(f"{path} is not readable JSON ({where}): fetch or write it again") from error
    if not isinstance(document, dict):
        raise CorpusError(f"{path} holds a JSON {type(document).__name__} where an object is expected")
    return document


def entries(document: dict[str, Any], key: str, path: str) -> list[dict[str, Any]]:
    """The list of objects under `key`. Raises `CorpusError` naming the key or the entry that is wrong."""
    found = document.get(key)
    if not isinstance(found, list):
        state = "is missing" if key not in document else f"is a {type(found).__name__}"
        raise CorpusError(f"{path}: the key {key!r}, a list of objects, {state}: is it the right format?")
    for number, entry in enumerate(found):
        if not isinstance(entry, dict):
            raise CorpusError(
                f"{path}: {key}[{number}] is a {type(entry).__name__} where an object is expected"
            )
    return found


def field(entry: dict[str, Any], key: str, where: str) -> Any:
    """`entry[key]`, or a `CorpusError` that says where it is missing."""
    try:
        return entry[key]
    except KeyError:
        raise CorpusError(f"{where} has no key {key!r}: is it the right format?") from None
