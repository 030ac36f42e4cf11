"""Two parties in this process: what each sends, and a partner that does not keep to a protocol."""

import base64
import threading

import pytest

from isthmus.errors import AlignError, LinkError
from isthmus.link import Transcript, memory_links
from isthmus.session import Session, run_parties

PARTIES = ("alice", "bob")


def recorded(programs, *, seed=0, timeout=20):
    """Run both parties' programs, bob the label party: the encoded messages of each, in order."""
    sent = {party: Transcript(payload=True) for party in PARTIES}
    links = memory_links(*PARTIES, transcripts=tuple(sent.values()), timeout=timeout)
    errors = []

    def be(me, other, link):
        session = Session(me=me, parties=PARTIES, label_party="bob", links={other: link}, seed=seed)
        try:
            programs[me](session)
        except BaseException as error:
            errors.append(error)
            link.fail(error)

    threads = [
        threading.Thread(target=be, args=(*pair, link))
        for pair, link in zip((PARTIES, PARTIES[::-1]), links, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    return {
        party: [base64.b64decode(entry.payload) for entry in transcript.entries]
        for party, transcript in sent.items()
    }


def against(program, partner, *, honest="hub", hello=None):
    """Run the honest party against a partner's own program; raise the honest one's error.

    `partner` is given its link once it has sent `hello`, if there is one.
    """
    errors = []

    def honest_program(session):
        try:
            return program(session)
        except BaseException as error:
            errors.append(error)
            raise

    def hostile_program(session):
        (link,) = session.links.values()
        if hello is not None:
            link.send("align.hello", header=hello)
        partner(link)
        link.recv("never")  # until the honest side has failed

    with pytest.raises((LinkError, AlignError)):
        run_parties(
            {"honest": honest_program, "hostile": hostile_program},
            label_party="honest" if honest == "hub" else "hostile",
        )
    raise errors[0]
