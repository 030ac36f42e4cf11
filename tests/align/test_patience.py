"""Who is done waits as long as the label party works on with a partner that has many more ids."""

import pytest

from isthmus.align import align, count_overlap
from isthmus.session import PATIENCE, run_parties

IDS = {"alice": range(20), "bob": range(10, 30), "carol": range(40)}


def waits(program):
    """The topics that bob waits for, and for how long: None for the link's own deadline."""
    found = {}

    def party(session):
        if session.me == "bob":
            recv = session.hub.recv

            def noting(topic, *, timeout=None):
                found.setdefault(topic, set()).add(timeout)
                return recv(topic, timeout=timeout)

            session.hub.recv = noting
        return program(session, [str(number) for number in IDS[session.me]])

    run_parties(dict.fromkeys(IDS, party), label_party="alice")
    return found


@pytest.mark.parametrize("protocol", ["ecdh", "kkrt", "rsa-blind"])
@pytest.mark.parametrize("rows", ["common", "label"])
def test_the_end_of_an_alignment_is_waited_for(protocol, rows):
    found = waits(lambda session, ids: align(session, ids, protocol=protocol, rows=rows, workers=0))
    assert found["align.common"] == found["align.digest"] == {PATIENCE}


def test_a_count_is_waited_for():
    found = waits(lambda session, ids: count_overlap(session, ids, workers=0))
    assert found["align.count"] == {PATIENCE}
