"""Keys that sign bundles, and those that are trusted: elliptic curve keys (P-256) in PEM files of one's own.

A key goes by the first digits of the SHA-256 of its public half. It may carry the day until which it is
trusted, as a line before its PEM; a key that is to count no more before that is taken out of the trust store.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from captionloop.errors import ConfigurationError

SIGNING_KEY = "CAPTIONLOOP_SIGNING_KEY"
TRUST_STORE = "CAPTIONLOOP_TRUST_STORE"
PRIVATE = "signing-key.pem"
PUBLIC = ".pub"
"""What the names of a trust store's files end in; others are not looked at."""
ID_LENGTH = 16

_PEM = re.compile(r"(?P<before>.*?)(?P<pem>-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----)", re.DOTALL)
_UNTIL = re.compile(r"^Trusted until: (?P<day>\S+)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key: its PEM, and the last day (UTC) on which it is trusted, where it has one."""

    pem: bytes
    until: date | None = None

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the PEM, by which signatures name their key."""
        return hashlib.sha256(self.pem).hexdigest()

    @property
    def key_id(self) -> str:
        """Short enough to be read out."""
        return self.fingerprint[:ID_LENGTH]

    @property
    def has_ended(self) -> bool:
        """Whether its last day is over."""
        return self.until is not None and datetime.now(UTC).date() > self.until


def make_key_pair(folder: Path, lifetime: timedelta | None = None) -> tuple[Path, Path]:
    """A new private key and its public key, as files in a folder: where they lie.

    The private one can be read by its owner alone. Raises `ConfigurationError` where there is one already.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    made = ec.generate_private_key(ec.SECP256R1())
    secret = made.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    key = PublicKey(_public_pem(made.public_key()), _last_day(lifetime))
    folder.mkdir(parents=True, exist_ok=True)
    private, public = folder / PRIVATE, folder / f"{key.key_id}{PUBLIC}"
    try:
        handle = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigurationError(
            f"There is a key in {folder} already ({PRIVATE}): give another folder, or move it away"
        ) from None
    with os.fdopen(handle, "wb") as file:
        file.write(secret)
    told = f"captionloop signing key {key.key_id}\n"
    told += f"Trusted until: {key.until}\n" if key.until else ""
    public.write_bytes(told.encode() + key.pem)
    return private, public


def public_half(private: Path) -> PublicKey:
    """The public key of a private key's file. Raises `ConfigurationError` where it holds none of ours."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        loaded = serialization.load_pem_private_key(private.read_bytes(), None)
    except OSError as error:
        raise ConfigurationError(
            f"{SIGNING_KEY}={str(private)!r} cannot be read ({error.strerror}): name a private key's file"
        ) from None
    except (ValueError, TypeError):  # the latter where it has a password
        raise _no_key(private) from None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise _no_key(private)
    return PublicKey(_public_pem(loaded.public_key()))


def trusted_keys(place: Path) -> dict[str, PublicKey]:
    """The keys of a trust store, a file or a folder of files, by their fingerprints.

    Raises:
        ConfigurationError: it is not there, or holds no key: then nothing is trusted, and nothing can be.
    """
    found = {key.fingerprint: key for file in _files(place) for key in _keys_in(file)}
    if not found:
        raise ConfigurationError(
            f"{TRUST_STORE}={str(place)!r} holds no public key: put one there that captionloop models keygen "
            "has made (its name ends in .pub), or unset it"
        )
    return found


def _files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    return sorted(
        file
        for file in place.iterdir()
        if file.suffix == PUBLIC and not file.name.startswith(".") and file.is_file()
    )


def _keys_in(file: Path) -> Iterator[PublicKey]:
    from cryptography.hazmat.primitives import serialization

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigurationError(f"{file} in {TRUST_STORE} cannot be read: {reason}") from None
    if "PRIVATE KEY" in text:
        raise ConfigurationError(
            f"{file} in {TRUST_STORE} is a private key, which belongs to whoever signs and nowhere else: "
            "put its public key there"
        )
    for found in _PEM.finditer(text):
        until = _UNTIL.search(found["before"])
        try:
            loaded = serialization.load_pem_public_key(found["pem"].encode())
            yield PublicKey(_public_pem(loaded), date.fromisoformat(until["day"]) if until else None)
        except ValueError as error:
            raise ConfigurationError(
                f"{file} in {TRUST_STORE} holds a key that cannot be read: {error}"
            ) from None


def _public_pem(key: object) -> bytes:
    """As signatures hash it."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("it is not one of an elliptic curve")  # noqa: TRY004 - of the file, not of the call
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _last_day(lifetime: timedelta | None) -> date | None:
    return None if lifetime is None else (datetime.now(UTC) + lifetime).date()


def _no_key(file: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{SIGNING_KEY}={str(file)!r} is no private key of an elliptic curve without a password: "
        "make one with captionloop models keygen"
    )
