"""Parties that cannot or must not meet: one clear error, with real TLS between them."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from isthmus import __version__
from isthmus.errors import (
    DataError,
    IdentityError,
    JobError,
    JobMismatch,
    LinkError,
    PartnerAbsent,
    UntrustedPartner,
)
from isthmus.jobs.party import PartyRun, agreed_context, meeting_points, run_party
from isthmus.link import Deadlines
from isthmus.link.identity import create_identity, trust

SHORT = Deadlines(connect=4, recv=10, reconnect=1, heartbeat=1, close=1)
ENOUGH = Deadlines(connect=60, recv=60, reconnect=5, heartbeat=2, close=5)
"""For what ends by itself."""


def test_a_certificate_that_is_not_the_trusted_one(site):
    create_identity(site.identities["alice"], "alice", replace=True)
    outcome = site.run_threads(deadlines=SHORT)
    assert isinstance(outcome["alice"], UntrustedPartner | PartnerAbsent)
    assert isinstance(outcome["bob"], UntrustedPartner | PartnerAbsent)
    assert not list((site.folder / "runs").rglob("align"))


def test_an_expired_certificate(site):
    long_ago = datetime.now(UTC) - timedelta(days=30)
    folder = site.identities["alice"]
    create_identity(folder, "alice", days=3, replace=True, now=long_ago)
    trust(
        site.identities["bob"],
        folder / "alice.cert.pem",
        replace=True,
        now=long_ago + timedelta(days=1),
    )
    outcome = site.run_threads(deadlines=SHORT)
    for error in outcome.values():
        assert isinstance(error, IdentityError)
        assert "expired on" in error.message
        assert "isthmus identity new alice" in error.mend


def test_parties_with_different_jobs(site):
    outcome = site.run_threads({"alice": site.job("train.epochs=3")}, deadlines=ENOUGH)
    assert all(isinstance(error, JobMismatch) for error in outcome.values()), outcome
    assert not list((site.folder / "runs").rglob("align"))


def test_parties_with_different_versions(site, monkeypatch):
    from isthmus.jobs import party

    versions = itertools.count(1)
    monkeypatch.setattr(
        party, "agreed_context", lambda job: f"0.{next(versions)}.0:{job.hash}", raising=True
    )
    outcome = site.run_threads(deadlines=ENOUGH)
    for error in outcome.values():
        assert isinstance(error, JobMismatch)
        assert "0.1.0:" in error.message
        assert "0.2.0:" in error.message
        assert "isthmus --version" in error.mend
        assert "isthmus job hash --canonical" in error.mend
        assert "--set" in error.mend
    assert agreed_context(site.job()) == f"{__version__}:{site.job().hash}"


def test_an_absent_partner_is_waited_for_and_then_named(site):
    said = []

    class Progress:
        def say(self, text):
            said.append(text)

    with pytest.raises(PartnerAbsent) as caught:
        run_party(
            PartyRun(
                job=site.job(),
                me="alice",
                identity=site.identities["alice"],
                dial={"bob": f"127.0.0.1:{site.port}"},
                out=site.folder / "runs",
                deadlines=Deadlines(connect=4),
                progress=Progress(),
            )
        )
    assert "bob" in caught.value.message
    assert caught.value.mend
    assert "Does the other side use --listen" in caught.value.mend
    assert said[0] == "waiting for bob"
    assert any("up to" in text for text in said)


def plan(site, me, **fields):
    return PartyRun(job=site.job(), me=me, identity=site.identities[me], **fields)


def test_where_the_parties_meet(site):
    assert meeting_points(plan(site, "bob", listen="0.0.0.0:1")) == ("0.0.0.0:1", {"alice": None})
    assert meeting_points(plan(site, "alice", dial={"bob": "b:1"})) == (None, {"bob": "b:1"})
    assert meeting_points(plan(site, "bob", dial={"alice": "a:1"})) == (None, {"alice": "a:1"})
    with pytest.raises(JobError, match="nothing says how bob meets alice"):
        meeting_points(plan(site, "bob"))
    with pytest.raises(JobError, match="has no link to it"):
        meeting_points(plan(site, "alice", dial={"carol": "c:1"}))
    table = "    table: bob/events.csv"
    site.write(site.job_file.read_text().replace(table, f"{table}\n    address: b.example:7600"))
    assert meeting_points(plan(site, "bob")) == ("b.example:7600", {"alice": None})
    assert meeting_points(plan(site, "alice")) == (None, {"bob": "b.example:7600"})


def test_two_parties_that_both_listen(site):
    listens = plan(
        site, "bob", listen="127.0.0.1:0", out=site.folder, deadlines=Deadlines(connect=1)
    )
    with pytest.raises(PartnerAbsent) as caught:
        run_party(listens)
    assert "Does either side use --dial?" in caught.value.mend


def test_a_partner_is_not_kept_waiting_by_a_table_that_cannot_be_used(site):
    (site.folder / "alice" / "people.csv").unlink()
    with pytest.raises(DataError, match=r"job\.yaml:6: parties\.alice\.table: there is no table"):
        run_party(plan(site, "alice", dial={"bob": "127.0.0.1:1"}, out=site.folder / "runs"))
    assert not (site.folder / "runs").exists()


@pytest.mark.parametrize("address", ["foo", "foo:", ":1", "foo:port", "foo:99999"])
def test_an_address_that_is_none(site, address):
    with pytest.raises(JobError, match="is not HOST:PORT"):
        meeting_points(plan(site, "alice", dial={"bob": address}))
    with pytest.raises(JobError, match=r"--listen .* is not HOST:PORT"):
        meeting_points(plan(site, "bob", listen=address))


def test_a_party_that_the_job_does_not_know(site):
    with pytest.raises(JobError, match="'carol' is not a party"):
        run_party(PartyRun(job=site.job(), me="carol", identity=site.folder))


def test_a_port_that_is_taken(site):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", site.port))
        taken.listen()
        with pytest.raises(LinkError):
            run_party(
                plan(site, "bob", listen=f"127.0.0.1:{site.port}", out=site.folder, deadlines=SHORT)
            )
