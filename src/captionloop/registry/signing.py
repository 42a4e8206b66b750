"""Signatures of bundles, and the keys that sign them or are trusted (P-256, PEM).

A key goes by the first digits of the SHA-256 of its public half. It may carry the day until which it is
trusted, as a line before its PEM; a key that is to count no more before that is taken out of the trust store.

The checksums in the registry find damage; they can be changed together with the weights. So a bundle is
signed when it is registered, where there is a key to sign with; and where there is a trust store, only what
one of its keys has signed is promoted or loaded. What is signed is a list of the checksums of every file in
the bundle (OpenSSF Model Signing, with a key of one's own: no network is asked).

A signature says who made a bundle. It does not say that the bundle is good, nor that it is the newest one.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from captionloop.errors import ConfigurationError, SignatureError
from captionloop.paths import expanded

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

    private_key = ec.generate_private_key(ec.SECP256R1())
    secret = private_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    key = PublicKey(_public_pem(private_key.public_key()), _last_day(lifetime))
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
    header = f"captionloop signing key {key.key_id}\n"
    header += f"Trusted until: {key.until}\n" if key.until else ""
    public.write_bytes(header.encode() + key.pem)
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
    for match in _PEM.finditer(text):
        until = _UNTIL.search(match["before"])
        try:
            loaded = serialization.load_pem_public_key(match["pem"].encode())
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


SIGNATURE = "signature.json"
"""Beside a version's `bundle/` among its artifacts, and after the name of a bundle's folder elsewhere."""


@dataclass(frozen=True, slots=True)
class Signing:
    """The key to sign with, and the keys that are trusted: files that are read whenever they are needed, so
    that a key counts from the moment in which it is put there, or taken away.
    """

    key: Path | None = None
    trust_store: Path | None = None

    @classmethod
    def from_environment(cls) -> "Signing":
        """`CAPTIONLOOP_SIGNING_KEY` and `CAPTIONLOOP_TRUST_STORE`."""
        key, trust_store = (os.environ.get(name, "") for name in (SIGNING_KEY, TRUST_STORE))
        return cls(
            Path(expanded(key)).absolute() if key else None,
            Path(expanded(trust_store)).absolute() if trust_store else None,
        )

    def sign(self, bundle: Path, place: Path) -> PublicKey | None:
        """Signs a bundle into a file `place`, and returns the key; None, and no file, without a key.

        Raises `ConfigurationError` where the key cannot be used.
        """
        if self.key is None:
            return None
        signer = public_half(self.key)
        from model_signing import signing

        config = signing.Config().use_elliptic_key_signer(private_key=self.key)
        config.set_hashing_config(_every_file()).sign(bundle, place)
        return signer

    def check(self, bundle: Path, signature: Path, called: str) -> PublicKey | None:
        """The trusted key that signed the bundle; None where no trust store is configured.

        Args:
            bundle: its folder.
            signature: the file of its signature, which may be missing.
            called: what to call the bundle in errors.

        Raises:
            SignatureError: it is not signed, not by a trusted key, or is not what was signed.
            ConfigurationError: the trust store cannot be used.
        """
        if self.trust_store is None:
            return None
        trusted = trusted_keys(self.trust_store)
        key = self._signer(signature, trusted, called)
        from model_signing import verifying

        with tempfile.TemporaryDirectory() as folder:
            public = Path(folder) / "key.pem"
            public.write_bytes(key.pem)
            config = verifying.Config().use_elliptic_key_verifier(public_key=public)
            try:
                config.set_hashing_config(_every_file()).verify(bundle, signature)
            except Exception as error:  # whatever is wrong with it, it does not count
                raise SignatureError(
                    f"{called} is not what key {key.key_id} signed: its files or its signature were changed "
                    f"({type(error).__name__}); use another version, or register this one again"
                ) from error
        return key

    def _signer(self, signature: Path, trusted: dict[str, PublicKey], called: str) -> PublicKey:
        """The trusted key that a signature names."""
        try:
            fingerprint = _named_key(json.loads(signature.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise SignatureError(
                f"{called} is not signed, and {TRUST_STORE} is set: use another version, register this one "
                f"where {SIGNING_KEY} is set, or, if you know that it is yours, captionloop models sign"
            ) from None
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise SignatureError(
                f"The signature of {called} cannot be read ({type(error).__name__}): use another version, or "
                "sign this one again with captionloop models sign"
            ) from None
        key = trusted.get(fingerprint)
        if key is None:
            known = ", ".join(sorted(each.key_id for each in trusted.values()))
            raise SignatureError(
                f"{called} is signed by key {fingerprint[:ID_LENGTH]}, which is not trusted ({TRUST_STORE} "
                f"holds {known}): use another version, or put that key there if it is one of yours"
            )
        if key.has_ended:
            raise SignatureError(
                f"{called} is signed by key {key.key_id}, which was trusted until {key.until}: "
                "sign it anew with captionloop models sign and a key that is trusted"
            )
        return key


def signature_of(folder: Path) -> Path:
    """Where the signature of a bundle's folder lies: beside it, for inside it would be one of its files."""
    return folder.with_name(f"{folder.name}.{SIGNATURE}")


def _named_key(document: Any) -> str:
    """The fingerprint of the key that a signature says it is of. The name alone proves nothing."""
    hint = document["verificationMaterial"]["publicKey"]["hint"]
    if not isinstance(hint, str) or len(hint) != 64 or not all(digit in "0123456789abcdef" for digit in hint):
        raise ValueError("it names no key")
    return hint


def _every_file() -> Any:
    """How files are hashed: all of them, those of git too, which are left out unless told otherwise."""
    from model_signing import hashing

    return hashing.Config().use_file_serialization().set_ignored_paths(paths=[], ignore_git_paths=False)
