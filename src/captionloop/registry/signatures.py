"""Signatures of bundles: who made a version, by keys that whoever can write the registry does not have.

The checksums in the registry find damage; they can be changed together with the weights. So a bundle is
signed when it is registered, where there is a key to sign with; and where there is a trust store, only what
one of its keys has signed is promoted or loaded. What is signed is a list of the checksums of every file in
the bundle (OpenSSF Model Signing, with a key of one's own: no network is asked).

A signature says who made a bundle. It does not say that the bundle is good, nor that it is the newest one.
"""

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captionloop.errors import SignatureError
from captionloop.paths import expanded
from captionloop.registry.signing_keys import (
    ID_LENGTH,
    SIGNING_KEY,
    TRUST_STORE,
    PublicKey,
    public_half,
    trusted_keys,
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
            told = _named_key(json.loads(signature.read_text(encoding="utf-8")))
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
        key = trusted.get(told)
        if key is None:
            known = ", ".join(sorted(each.key_id for each in trusted.values()))
            raise SignatureError(
                f"{called} is signed by key {told[:ID_LENGTH]}, which is not trusted ({TRUST_STORE} holds "
                f"{known}): use another version, or put that key there if it is one of yours"
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
