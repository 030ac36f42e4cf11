"""What one party draws is its own affair: no partner can compute it from the job alone."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data.features import FieldLayout, Layout
from isthmus.jobs.rehearsal import rehearsal_secret, rehearsal_secrets
from isthmus.jobs.training import bottom_of
from isthmus.link.identity import create_identity
from isthmus.models import EmbeddingTable
from isthmus.session import Session, run_parties

LAYOUT = Layout((FieldLayout("colour", "categorical", 0, 1, 1, 20),), 21, 1, 0)
PARTIES = ("alice", "bob")


def session(secret, me="alice", seed=3):
    return Session(me=me, parties=PARTIES, label_party="bob", seed=seed, secret=secret)


def table(job, secret):
    bottom = bottom_of(job.spec, session(secret), LAYOUT)
    (found,) = [part for part in bottom.modules() if isinstance(part, EmbeddingTable)]
    return found.weight.detach()[1:]


def test_other_secrets_give_other_initial_tables(workshop):
    job = workshop.job()
    first = table(job, b"a" * 32)
    assert torch.equal(first, table(job, b"a" * 32))
    for guess in (b"b" * 32, b"", rehearsal_secret(job.spec.seed, "alice")):
        assert not (first == table(job, guess)).any()


@given(secret=st.binary(min_size=1, max_size=40), other=st.binary(max_size=40))
def test_what_a_party_draws_depends_on_its_secret_and_what_all_draw_does_not(secret, other):
    mine, theirs = session(secret), session(other)
    # A key is filled up with zeros to the block's length: 32 random bytes never differ by that.
    if secret.rstrip(b"\x00") != other.rstrip(b"\x00"):
        assert mine.seed_for("bottom") != theirs.seed_for("bottom")
        assert mine.rng("x").integers(2**62) != theirs.rng("x").integers(2**62)
    assert mine.shared_rng("epoch", 1).integers(2**62) == theirs.shared_rng("epoch", 1).integers(
        2**62
    )


def test_a_secret_is_not_the_same_for_each_purpose_party_or_job():
    secret = b"a" * 32
    seeds = [
        session(secret).seed_for("bottom"),
        session(secret).seed_for("top"),
        session(secret, seed=4).seed_for("bottom"),
        session(secret, me="bob").seed_for("bottom"),
    ]
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_secret_is_not_shown():
    secret = hashlib.sha256(b"x").digest()
    assert "secret" not in repr(session(secret))


def test_each_party_gets_its_own_secret():
    secrets = rehearsal_secrets(3, PARTIES)
    assert secrets["alice"] != secrets["bob"]
    assert secrets != rehearsal_secrets(4, PARTIES)
    seen = run_parties(
        dict.fromkeys(PARTIES, lambda session: session.secret), label_party="bob", secrets=secrets
    )
    assert seen == secrets


def test_the_order_of_events_is_the_label_party_s_secret():
    from isthmus.align import align

    def order(secret):
        secrets = {"alice": b"", "bob": secret}
        programs = {
            "alice": lambda session: align(session, list(range(20)), keys="entity", workers=0),
            "bob": lambda session: align(
                session, [i % 20 for i in range(200)], keys="entity", workers=0
            ),
        }
        return run_parties(programs, label_party="bob", secrets=secrets)["bob"].rows

    first = order(b"a" * 32)
    assert np.array_equal(first, order(b"a" * 32))
    assert not np.array_equal(first, order(b"b" * 32))


@pytest.mark.parametrize("name", ["a" * 32, "0-_z"])
def test_a_party_s_name_in_a_job_can_be_in_a_certificate(workshop, name):
    workshop.change("  alice:", f"  {name}:")
    assert name in workshop.job().spec.parties
    create_identity(workshop.folder / "identity", name)


@pytest.mark.parametrize("name", ["a" * 41, "-a", "_a", "Alice", '"a\\n"', '""', "zoë", "a.b"])
def test_a_name_that_cannot_be_in_a_certificate_is_none_in_a_job(workshop, name):
    from isthmus.errors import JobError

    workshop.change("  alice:", f"  {name}:")
    with pytest.raises(JobError, match="is not a name"):
        workshop.job()
