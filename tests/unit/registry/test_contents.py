from pathlib import Path

import pytest

from captionloop.errors import BundleError
from captionloop.registry.model_version import checksums, damaged_files, fingerprint


def test_a_model_described_anew_is_the_same_model(make_bundle) -> None:
    assert fingerprint(make_bundle(commit="abc")) == fingerprint(make_bundle(commit="def"))


def test_other_weights_are_another_model(make_bundle) -> None:
    assert fingerprint(make_bundle(weights=b"x")) != fingerprint(make_bundle(weights=b"y"))


def test_another_beam_width_is_another_model(make_bundle) -> None:
    assert fingerprint(make_bundle(beam_width=3)) != fingerprint(make_bundle(beam_width=5))


def test_damage_is_found_by_file(make_bundle) -> None:
    bundle = make_bundle()
    registered = checksums(bundle)
    assert damaged_files(bundle, registered) == []
    (bundle / "tokenizer.json").unlink()
    (bundle / "model.safetensors").write_bytes(b"flipped")
    assert damaged_files(bundle, registered) == ["model.safetensors", "tokenizer.json"]


def test_what_is_no_bundle_has_no_fingerprint(make_bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no bundle"):
        fingerprint(tmp_path / "nowhere")
    (make_bundle() / "model.safetensors").write_bytes(b"flipped")
    with pytest.raises(BundleError, match=r"model\.safetensors is damaged"):
        fingerprint(tmp_path / "bundles" / "one")
