"""Signed versions in a real MLflow store: what whoever can write it can and cannot do."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient

from captionloop.errors import ConfigurationError, SignatureError
from captionloop.registry import model_version
from captionloop.registry.model_registry import ModelRegistry
from captionloop.registry.model_version import checksums, fingerprint
from captionloop.registry.signing import SIGNATURE, Signing, make_key_pair, signature_of, trusted_keys

pytestmark = pytest.mark.integration

Signed = Callable[..., ModelRegistry]


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, tuple[Path, Path]]:
    """Ours, one that will replace it, and a stranger's: private and public each."""
    return {name: make_key_pair(tmp_path / "keys" / name) for name in ("ours", "next", "stranger")}


@pytest.fixture
def store(tmp_path: Path, keys: dict[str, tuple[Path, Path]]) -> Path:
    """A trust store that holds our key."""
    folder = tmp_path / "trusted"
    folder.mkdir()
    shutil.copy(keys["ours"][1], folder)
    return folder


@pytest.fixture
def signed(registry: ModelRegistry, keys, store: Path) -> Signed:
    """The registry, signing with one of the keys and trusting the store."""

    def with_key(name: str | None = "ours") -> ModelRegistry:
        key = None if name is None else keys[name][0]
        registry.signing = Signing(key, store)
        return registry

    return with_key


def place_of(registry: ModelRegistry, version: int) -> Path:
    """Where its artifacts lie, for whoever can write the registry."""
    return Path(registry.version(version).source).parent


def retag(registry: ModelRegistry, version: int, key: str, value: str) -> None:
    MlflowClient(registry.tracking_uri).set_model_version_tag(registry.name, str(version), key, value)


def refused(registry: ModelRegistry, version: int, match: str, folder: Path) -> None:
    """It is neither promoted nor fetched, in one line, and what was there stays."""
    before = registry.champion()
    for attempt in (
        lambda: registry.promote(version),
        lambda: registry.fetch(version, folder),
        lambda: registry.check_files(version),
    ):
        with pytest.raises(SignatureError, match=match) as raised:
            attempt()
        assert "\n" not in str(raised.value)
    assert registry.champion() == before and not folder.exists() and not signature_of(folder).exists()


def test_a_signed_version_is_promoted_and_fetched_with_its_signature(
    signed: Signed, make_bundle, tmp_path: Path
) -> None:
    registry = signed()
    bundle = make_bundle()
    version = registry.register(bundle)
    assert registry.promote(version.version).is_champion
    here = registry.fetch("champion", tmp_path / "here")
    assert checksums(here) == checksums(bundle), "a signature is no part of the bundle"
    registry.signing.check(here, signature_of(here), "it")


def test_without_keys_nothing_is_signed_and_nothing_is_asked_for(
    registry: ModelRegistry, make_bundle, tmp_path: Path
) -> None:
    registry.promote(registry.register(make_bundle()).version)
    registry.fetch("champion", tmp_path / "here" / "it")
    assert not (place_of(registry, 1) / SIGNATURE).exists()
    assert [each.name for each in (tmp_path / "here").iterdir()] == ["it"]


def test_checksums_and_weights_changed_together_are_refused(
    signed: Signed, make_bundle, tmp_path: Path
) -> None:
    """The attack: whoever writes the registry puts another model in a version's place, with all that belongs
    to it: its own checksums inside, the checksums and the fingerprint in the tags.
    """
    registry = signed()
    registry.promote(registry.register(make_bundle("one")).version)
    registry.register(make_bundle("two"))
    evil = make_bundle("evil", weights=b"does what its master says")
    shutil.copytree(evil, place_of(registry, 2) / "bundle", dirs_exist_ok=True)
    retag(registry, 2, model_version.CHECKSUMS, json.dumps(checksums(evil)))
    retag(registry, 2, model_version.FINGERPRINT, fingerprint(evil))
    refused(registry, 2, r"version 2 is not what key \w{16} signed", tmp_path / "here")
    registry.signing = Signing()
    assert registry.fetch(2, tmp_path / "there").is_dir(), "the checksums alone do not find it"


def test_neither_is_a_copy_used_that_was_fetched_before(signed: Signed, make_bundle, tmp_path: Path) -> None:
    registry = signed()
    registry.register(make_bundle("one"))
    here = registry.fetch(1, tmp_path / "here")
    evil = make_bundle("evil")
    shutil.copytree(evil, place_of(registry, 1) / "bundle", dirs_exist_ok=True)
    retag(registry, 1, model_version.CHECKSUMS, json.dumps(checksums(evil)))
    with pytest.raises(SignatureError, match="is not what key"):
        registry.fetch(1, here)
    assert (here / "model.safetensors").read_bytes() == b"one", "what was good is still there"


@pytest.mark.parametrize("name", ["extra.safetensors", ".gitattributes", "deeper/file.txt"])
def test_a_file_more_is_refused(signed: Signed, make_bundle, tmp_path: Path, name: str) -> None:
    registry = signed()
    registry.register(make_bundle())
    more = place_of(registry, 1) / "bundle" / name
    more.parent.mkdir(exist_ok=True)
    more.write_text("more")
    refused(registry, 1, "is not what key", tmp_path / "here")


def test_an_empty_list_of_checksums_lets_nothing_through(signed: Signed, make_bundle, tmp_path: Path) -> None:
    registry = signed()
    registry.register(make_bundle())
    retag(registry, 1, model_version.CHECKSUMS, "{}")
    refused(registry, 1, "is not what key", tmp_path / "here")


def test_the_signature_of_another_bundle_does_not_count(signed: Signed, make_bundle, tmp_path: Path) -> None:
    registry = signed()
    registry.register(make_bundle("one"))
    registry.signing = Signing()
    registry.register(make_bundle("evil"))
    registry = signed()
    refused(registry, 2, "version 2 is not signed", tmp_path / "here")
    shutil.copy(place_of(registry, 1) / SIGNATURE, place_of(registry, 2) / SIGNATURE)
    refused(registry, 2, "is not what key", tmp_path / "here")


def test_a_key_that_is_not_trusted_does_not_count(signed: Signed, keys, make_bundle, tmp_path: Path) -> None:
    registry = signed("stranger")
    registry.register(make_bundle())
    refused(registry, 1, r"is signed by key \w{16}, which is not trusted", tmp_path / "here")
    # Nor if it says that it is ours.
    file = place_of(registry, 1) / SIGNATURE
    document = json.loads(file.read_text())
    ours = next(iter(trusted_keys(keys["ours"][1])))
    document["verificationMaterial"]["publicKey"]["hint"] = ours
    file.write_text(json.dumps(document))
    refused(registry, 1, "is not what key", tmp_path / "here")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff", b'{"verificationMaterial": {"publicKey": {"hint": null}}}']
)
def test_a_signature_that_is_none_is_told_in_a_line(
    signed: Signed, make_bundle, tmp_path: Path, content: bytes
) -> None:
    registry = signed()
    registry.register(make_bundle())
    (place_of(registry, 1) / SIGNATURE).write_bytes(content)
    refused(registry, 1, "The signature of .* version 1 cannot be read", tmp_path / "here")
    registry.sign(1)
    assert registry.promote(1).is_champion


def test_keys_are_exchanged_without_a_gap(
    signed: Signed, keys, store: Path, make_bundle, tmp_path: Path
) -> None:
    """Both are trusted for a while; what shall stay is signed anew; then the old one is taken away."""
    registry = signed()
    registry.promote(registry.register(make_bundle("one")).version)
    shutil.copy(keys["next"][1], store)
    registry = signed("next")
    registry.promote(registry.register(make_bundle("two")).version)
    assert registry.rollback().version == 1, "signed by the old key, which is still trusted"
    registry.promote(2)
    (store / keys["ours"][1].name).unlink()
    with pytest.raises(SignatureError, match="which is not trusted"):
        registry.rollback()
    assert registry.champion().version == 2 and registry.version(2).rolled_back is None
    registry.sign(1)
    assert registry.rollback().version == 1


def test_a_key_counts_until_its_last_day(signed: Signed, keys, store: Path, make_bundle, tmp_path) -> None:
    registry = signed()
    registry.register(make_bundle())
    public = store / keys["ours"][1].name
    pem = public.read_text()
    public.write_text("Trusted until: 2999-01-01\n" + pem)
    registry.check_files(1)
    public.write_text("Trusted until: 2020-01-01\n" + pem)
    refused(registry, 1, "which was trusted until 2020-01-01", tmp_path / "here")
    shutil.copy(keys["next"][1], store)
    signed("next").sign(1)
    assert registry.promote(1).is_champion


def test_a_version_from_before_there_were_keys_is_signed_by_hand(
    signed: Signed, make_bundle, tmp_path: Path
) -> None:
    registry = signed(None)
    registry.register(make_bundle())
    refused(registry, 1, "version 1 is not signed.*captionloop models sign", tmp_path / "here")
    with pytest.raises(ConfigurationError, match="CAPTIONLOOP_SIGNING_KEY"):
        registry.sign(1)
    registry = signed()
    registry.sign(1)
    assert registry.promote(1).is_champion


def test_what_is_damaged_is_not_signed_by_hand(signed: Signed, make_bundle) -> None:
    registry = signed()
    registry.register(make_bundle())
    (place_of(registry, 1) / "bundle" / "model.safetensors").write_bytes(b"flipped")
    with pytest.raises(Exception, match="missing or damaged"):
        registry.sign(1)


def test_the_gate_s_promotion_asks_for_the_signature_too(signed: Signed, make_bundle) -> None:
    from test_gated_promotion import decision

    registry = signed(None)
    registry.register(make_bundle())
    registry.record_decision(1, decision(champion=None), "")
    with pytest.raises(SignatureError, match="is not signed"):
        registry.promote_gated(1)
    assert registry.champion() is None


def test_a_trust_store_without_keys_trusts_nobody(
    signed: Signed, keys, store: Path, make_bundle, tmp_path: Path
) -> None:
    registry = signed()
    registry.register(make_bundle())
    for file in store.iterdir():
        file.unlink()
    with pytest.raises(ConfigurationError, match="holds no public key"):
        registry.promote(1)
    shutil.copy(keys["ours"][0], store)
    with pytest.raises(ConfigurationError, match="holds no public key"):
        registry.promote(1)
    shutil.copy(keys["ours"][0], store / "key.pub")
    with pytest.raises(ConfigurationError, match="is a private key"):
        registry.promote(1)
    shutil.rmtree(store)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        registry.promote(1)
    store.mkdir()
    shutil.copy(keys["ours"][1], store)
    assert registry.promote(1).is_champion


def test_the_environment_says_what_holds_for_commands_and_pipelines(
    registry: ModelRegistry, keys, store: Path, make_bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTIONLOOP_SIGNING_KEY", str(keys["stranger"][0]))
    monkeypatch.setenv("CAPTIONLOOP_TRUST_STORE", str(store))
    from_environment = ModelRegistry(registry.tracking_uri, registry.name, "tests")
    from_environment.register(make_bundle())
    with pytest.raises(SignatureError, match="not trusted"):
        from_environment.promote(1)


@pytest.mark.parametrize("content", ["", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_key_to_sign_with_that_is_none_is_told_before_anything_is_uploaded(
    registry: ModelRegistry, make_bundle, tmp_path: Path, content: str
) -> None:
    key = tmp_path / "key.pem"
    key.write_text(content)
    registry.signing = Signing(key)
    with pytest.raises(ConfigurationError, match="models keygen"):
        registry.register(make_bundle())
    assert registry.versions() == []
    registry.signing = replace(registry.signing, key=tmp_path / "none.pem")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        registry.register(make_bundle())


def test_a_private_key_is_for_its_owner_alone_and_is_not_overwritten(tmp_path: Path) -> None:
    private, public = make_key_pair(tmp_path / "pair", timedelta(days=2))
    assert private.stat().st_mode & 0o777 == 0o600
    (key,) = trusted_keys(public).values()
    assert key.until is not None and not key.has_ended and public.name == f"{key.key_id}.pub"
    with pytest.raises(ConfigurationError, match="already"):
        make_key_pair(tmp_path / "pair")
    assert "PRIVATE" not in public.read_text()
    assert trusted_keys(private.parent) == trusted_keys(public), "their folder is a trust store"


def test_a_tag_does_not_choose_where_a_bundle_is_put(registry: ModelRegistry, make_bundle) -> None:
    registry.register(make_bundle())
    retag(registry, 1, model_version.FINGERPRINT, "/../../../x")
    assert registry.version(1).fingerprint == ""
