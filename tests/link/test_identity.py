from __future__ import annotations

import base64
import os
import re
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization

from isthmus.errors import IdentityError, StorageError
from isthmus.link import create_identity, fingerprint, load_identity, trust, trusted_partners
from isthmus.link.identity import check_dates, trusted_partner

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def alice(tmp_path):
    return create_identity(tmp_path / "alice", "alice")


def test_a_new_identity_can_be_loaded(alice, tmp_path):
    loaded = load_identity(tmp_path / "alice", "alice")
    assert loaded == alice
    assert b"PRIVATE KEY" in loaded.key_pem()
    check_dates(loaded.certificate, "alice", own=True)


def test_the_private_key_is_its_owners_alone(alice):
    assert stat.S_IMODE(alice.key_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(alice.key_path.parent.stat().st_mode) == 0o700
    alice.key_path.chmod(0o644)
    with pytest.raises(IdentityError, match="chmod 600"):
        load_identity(alice.key_path.parent, "alice")


def test_repr_shows_no_key(alice):
    assert "PRIVATE" not in repr(alice)


def test_the_seed_is_its_owners_alone_and_never_shown(alice, tmp_path):
    path = tmp_path / "alice" / "alice.seed"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == alice.secret.hex() + "\n"
    assert len(alice.secret) == 32
    assert alice.secret.hex() not in repr(alice)
    assert str(alice.secret) not in repr(alice)
    assert create_identity(tmp_path / "bob", "bob").secret != alice.secret
    path.chmod(0o640)
    with pytest.raises(
        IdentityError, match=r"the seed .+alice\.seed can be read by others\. Run `chmod 600"
    ):
        load_identity(tmp_path / "alice", "alice")


def test_a_missing_seed_is_made_once(alice, tmp_path):
    path = tmp_path / "alice" / "alice.seed"
    path.unlink()
    made = load_identity(tmp_path / "alice", "alice").secret
    assert made != alice.secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_identity(tmp_path / "alice", "alice").secret == made
    assert sorted(p.suffix for p in path.parent.iterdir()) == [".pem", ".pem", ".seed"]
    path.write_text("hello")
    with pytest.raises(IdentityError, match="holds no seed"):
        load_identity(tmp_path / "alice", "alice")


def test_a_rehearsal_sets_the_seed(tmp_path):
    create_identity(tmp_path, "alice", secret=b"s" * 32)
    assert load_identity(tmp_path, "alice").secret == b"s" * 32
    with pytest.raises(ValueError, match="32 bytes"):
        create_identity(tmp_path / "bob", "bob", secret=b"short")


def test_fingerprints_are_readable_and_differ(alice, tmp_path):
    bob = create_identity(tmp_path / "bob", "bob")
    assert re.fullmatch(r"([0-9A-F]{4} ){15}[0-9A-F]{4}", alice.fingerprint)
    assert alice.fingerprint != bob.fingerprint


def test_trust(alice, tmp_path):
    partner = trust(tmp_path / "bob", alice.certificate_path, "alice")
    assert partner.fingerprint == fingerprint(alice.certificate)
    assert trusted_partners(tmp_path / "bob") == {"alice": partner}
    trust(tmp_path / "bob", alice.certificate_path)  # again is harmless


def test_nobody_is_trusted_at_first(tmp_path):
    assert trusted_partners(tmp_path) == {}


def test_a_valid_identity_is_not_overwritten_by_accident(alice):
    with pytest.raises(IdentityError, match="--replace"):
        create_identity(alice.key_path.parent, "alice")
    again = create_identity(alice.key_path.parent, "alice", replace=True)
    assert again.fingerprint != alice.fingerprint


def test_an_expired_identity_is_replaced(tmp_path):
    create_identity(tmp_path, "alice", now=LONG_AGO)
    fresh = create_identity(tmp_path, "alice")
    assert load_identity(tmp_path, "alice").fingerprint == fresh.fingerprint


def test_another_certificate_of_a_trusted_partner_needs_a_word(alice, tmp_path):
    trust(tmp_path / "bob", alice.certificate_path)
    other = create_identity(tmp_path / "other", "alice")
    with pytest.raises(IdentityError, match="another certificate of alice"):
        trust(tmp_path / "bob", other.certificate_path)
    trust(tmp_path / "bob", other.certificate_path, replace=True)
    assert trusted_partners(tmp_path / "bob")["alice"].fingerprint == other.fingerprint


@pytest.mark.parametrize("name", ["", "Alice", "a b", "../alice", "a" * 41, "-a", "a.b"])
def test_names_that_cannot_be(tmp_path, name):
    with pytest.raises(IdentityError, match="cannot be a party's name"):
        create_identity(tmp_path, name)


def test_missing_identity(tmp_path):
    with pytest.raises(IdentityError, match="isthmus identity new bob"):
        load_identity(tmp_path, "bob")


def test_broken_files(alice, tmp_path):
    text = tmp_path / "x.pem"
    text.write_text("hello")
    with pytest.raises(IdentityError, match="not one PEM certificate"):
        trust(tmp_path / "bob", text)
    with pytest.raises(IdentityError, match="cannot read the certificate"):
        trust(tmp_path / "bob", tmp_path / "absent.pem")
    with pytest.raises(IdentityError, match="private key, where a certificate belongs"):
        trust(tmp_path / "bob", alice.key_path)
    with pytest.raises(IdentityError, match="is a certificate of 'alice', not of 'carol'"):
        trust(tmp_path / "bob", alice.certificate_path, "carol")
    text.write_bytes(alice.certificate_pem() * 2)
    with pytest.raises(IdentityError, match="not one PEM certificate"):
        trust(tmp_path / "bob", text)
    alice.key_path.write_text("hello")
    with pytest.raises(IdentityError, match="not a PEM private key"):
        load_identity(tmp_path / "alice", "alice")


def test_a_key_of_somebody_else(alice, tmp_path):
    bob = create_identity(tmp_path / "bob", "bob")
    alice.key_path.write_bytes(bob.key_pem())
    with pytest.raises(IdentityError, match="does not belong"):
        load_identity(tmp_path / "alice", "alice")


def test_a_trusted_certificate_under_a_wrong_name(alice, tmp_path):
    path = trust(tmp_path / "bob", alice.certificate_path).path
    path.rename(path.with_name("carol.cert.pem"))
    with pytest.raises(IdentityError, match="wrong name"):
        trusted_partners(tmp_path / "bob")


def odd_certificate(certificate, old, new):
    """A certificate of a kind that no party has: `old` bytes of it replaced."""
    content = certificate.public_bytes(serialization.Encoding.DER)
    assert old in content
    body = base64.encodebytes(content.replace(old, new))
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"


ODD = {
    "unknown curve": (bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030106")),
    "extension twice": (b"\x55\x1d\x13", b"\x55\x1d\x11"),
    "odd name": (b"\x82\x0dalice.isthmus", b"\x83\x0dalice.isthmus"),
    "no date": (b"Z\x17\x0d", b"Z\x17\x0c"),
}


@pytest.mark.parametrize("oddity", ODD)
def test_a_certificate_that_the_library_cannot_use(alice, tmp_path, oddity):
    path = tmp_path / "odd.pem"
    path.write_bytes(odd_certificate(alice.certificate, *ODD[oddity]))
    with pytest.raises(IdentityError, match=r"odd\.pem is not"):
        trust(tmp_path / "bob", path)


@pytest.mark.parametrize("oddity", ODD)
def test_a_broken_file_stops_only_what_needs_it(alice, tmp_path, oddity):
    carol = create_identity(tmp_path / "carol", "carol")
    folder = tmp_path / "bob"
    odd = trust(folder, alice.certificate_path).path
    odd.write_bytes(odd_certificate(alice.certificate, *ODD[oddity]))
    trusted = trust(folder, carol.certificate_path)
    assert trusted_partner(folder, "carol") == trusted
    with pytest.raises(IdentityError, match=str(odd)):
        trusted_partner(folder, "alice")
    with pytest.raises(IdentityError, match=str(odd)):
        trusted_partners(folder)
    faults = []
    assert trusted_partners(folder, on_fault=faults.append) == {"carol": trusted}
    assert [str(odd) in str(fault) for fault in faults] == [True]
    assert trusted_partner(folder, "dave") is None


def test_a_key_without_its_certificate_is_not_overwritten(alice):
    alice.certificate_path.unlink()
    key = alice.key_pem()
    with pytest.raises(IdentityError, match=r"alice\.key\.pem, but its certificate is missing"):
        create_identity(alice.key_path.parent, "alice")
    assert alice.key_pem() == key
    assert create_identity(alice.key_path.parent, "alice", replace=True).key_pem() != key


def test_a_renewed_identity_keeps_its_seed_and_a_replaced_one_does_not(tmp_path):
    old = create_identity(tmp_path, "alice", now=LONG_AGO)
    renewed = create_identity(tmp_path, "alice")
    assert renewed.secret == old.secret
    assert create_identity(tmp_path, "alice", replace=True).secret != old.secret


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
@pytest.mark.parametrize("which", [".", "trusted"])
def test_a_trust_store_that_others_can_change(alice, tmp_path, which, mode):
    folder = tmp_path / "bob"
    create_identity(folder, "bob")
    trust(folder, alice.certificate_path)
    place = folder / which
    place.chmod(mode)
    for action in (
        lambda: trusted_partners(folder),
        lambda: trusted_partner(folder, "alice"),
        lambda: trust(folder, alice.certificate_path),
    ):
        with pytest.raises(IdentityError, match=f"Run `chmod go-w {place}`"):
            action()
    place.chmod(0o755)
    assert set(trusted_partners(folder)) == {"alice"}


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_certificate_that_others_can_change(alice, tmp_path, mode):
    path = trust(tmp_path / "bob", alice.certificate_path).path
    path.chmod(mode)
    with pytest.raises(IdentityError, match=f"Run `chmod go-w {path}`"):
        trusted_partner(tmp_path / "bob", "alice")
    alice.certificate_path.chmod(mode)
    with pytest.raises(IdentityError, match="chmod go-w"):
        load_identity(tmp_path / "alice", "alice")


def test_an_open_identity_folder_is_refused(alice):
    folder = alice.key_path.parent
    folder.chmod(0o777)
    with pytest.raises(IdentityError, match=f"Run `chmod go-w {folder}`"):
        load_identity(folder, "alice")
    with pytest.raises(IdentityError, match=f"Run `chmod go-w {folder}`"):
        create_identity(folder, "bob")


def test_what_is_made_is_safe_under_any_umask(tmp_path):
    before = os.umask(0)
    try:
        alice = create_identity(tmp_path / "new" / "alice", "alice")
        trust(tmp_path / "new" / "bob", alice.certificate_path)
    finally:
        os.umask(before)
    load_identity(tmp_path / "new" / "alice", "alice")
    assert set(trusted_partners(tmp_path / "new" / "bob")) == {"alice"}
    folders = ("new", "new/alice", "new/bob", "new/bob/trusted")
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in folders} == {0o700}


def test_dates(tmp_path):
    old = create_identity(tmp_path, "alice", days=10, now=LONG_AGO)
    check_dates(old.certificate, "alice", own=True, now=LONG_AGO + timedelta(days=9))
    with pytest.raises(IdentityError, match=r"expired on 2020-01-11.*isthmus identity new alice"):
        check_dates(old.certificate, "alice", own=True)
    with pytest.raises(IdentityError, match=r"valid only from 2019-12-31"):
        check_dates(old.certificate, "alice", own=False, now=LONG_AGO - timedelta(days=1))
    with pytest.raises(IdentityError, match="expired on 2020-01-11"):
        trust(tmp_path / "bob", old.certificate_path)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot make the folder"):
        create_identity(tmp_path / "file" / "alice", "alice")
