"""Secure sums that survive dropouts: the survivors' sum exactly, or an error, and nothing else."""

import random
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.errors import BadMessage, JobError, TrainError
from isthmus.fedrec.privacy import secure_secrets
from isthmus.fedrec.privacy.secure_client import Client
from isthmus.fedrec.privacy.secure_dropouts import (
    BEFORE_ANSWER,
    BEFORE_SHARES,
    BEFORE_WORDS,
    NEVER,
    Drops,
    bytes_up,
)
from isthmus.fedrec.privacy.secure_server import Server
from isthmus.fedrec.privacy.secure_terms import Rules
from isthmus.fedrec.privacy.secure_wire import (
    Keys,
    Seat,
    Shares,
    pack_answer,
    pack_boxes,
    pack_survivors,
    pack_words,
    unpack_answer,
    unpack_boxes,
    unpack_survivors,
    unpack_words,
)

WORDS = 5
LOOSE = Rules(traitors=0.1, lost=1 / 3)


class Sum:
    """A whole sum, step by step; what went up is kept for looking at."""

    def __init__(self, clients, rules=LOOSE, words=WORDS, seed=0):
        self.rules, self.order = rules, random.Random(seed)
        self.clients = [Client(rules) for _ in range(clients)]
        self.server = Server(rules, words, self.order)
        self.words = np.random.default_rng(seed).integers(
            0, 2**64, (clients, words), dtype=np.uint64
        )
        self.up = {"keys": {}, "shares": {}, "words": {}, "answers": {}}

    def to_boxes(self, without=()):
        up = self.up
        up["keys"] = {at: one.join() for at, one in enumerate(self.clients)}
        self.seats = self.server.seat(up["keys"])
        up["shares"] = {
            at: self.clients[at].share(seat) for at, seat in self.seats.items() if at not in without
        }
        self.boxes = self.server.deal(up["shares"])
        return self

    def to_list(self, without=()):
        for at, boxes in self.boxes.items():
            if at not in without:
                self.up["words"][at] = self.clients[at].masked(boxes, self.words[at])
                self.server.take(at, self.up["words"][at])
        self.lists = self.server.announce()
        return self

    def to_end(self, without=()):
        self.up["answers"] = {
            at: self.clients[at].answer(one) for at, one in self.lists.items() if at not in without
        }
        return self.server.total(self.up["answers"])

    def go(self, step):
        lost = {at: set(np.flatnonzero(step == at).tolist()) for at in (1, 2, 3)}
        return self.to_boxes(lost[1]).to_list(lost[2]).to_end(lost[3])

    def place(self, client):
        return Seat.unpack(self.seats[client], self.rules).place


def expected(one, step):
    return one.words[np.isin(step, (NEVER, BEFORE_ANSWER))].sum(axis=0, dtype=np.uint64)


def pattern(draw, clients, most):
    lost = draw(st.lists(st.integers(0, clients - 1), max_size=most, unique=True))
    step = np.zeros(clients, np.int8)
    step[lost] = draw(
        st.lists(st.integers(BEFORE_SHARES, BEFORE_ANSWER), min_size=len(lost), max_size=len(lost))
    )
    return step


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_losses_within_the_tolerance_leave_the_sum_of_the_survivors(data):
    clients = data.draw(st.integers(3, 16))
    terms = LOOSE.terms(clients)
    step = pattern(data.draw, clients, terms.lost)
    one = Sum(clients, seed=data.draw(st.integers(0, 99)))
    np.testing.assert_array_equal(one.go(step), expected(one, step))
    assert one.server.refused == {}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_losses_beyond_the_tolerance_are_an_error_and_no_sum(data):
    clients = data.draw(st.integers(3, 12))
    terms = LOOSE.terms(clients)
    step = pattern(data.draw, clients, 0)
    more = data.draw(st.integers(terms.lost + 1, clients))
    step[data.draw(st.permutations(range(clients)))[:more]] = data.draw(
        st.sampled_from([BEFORE_SHARES, BEFORE_WORDS])
    )
    with pytest.raises(TrainError, match="are the least"):
        Sum(clients).go(step)


def test_fewer_answers_than_the_threshold_are_an_error_and_no_sum():
    clients = 8
    terms = LOOSE.terms(clients)
    for missing in range(1, clients + 1):
        step = np.zeros(clients, np.int8)
        step[:missing] = BEFORE_ANSWER
        one = Sum(clients, seed=missing)
        if missing <= clients - 1 - terms.threshold:
            np.testing.assert_array_equal(one.go(step), one.words.sum(axis=0, dtype=np.uint64))
        elif missing > terms.neighbours - terms.threshold + 1:
            with pytest.raises(TrainError, match="cannot be taken off"):
                one.go(step)


def test_a_sparse_ring_gives_the_sum_of_the_survivors():
    clients, rules = 60, Rules()
    terms = rules.terms(clients)
    assert terms.neighbours < clients - 1
    one = Sum(clients, rules, seed=4)
    step = Drops.drawn(3, 7, 0.1, terms).step
    assert sorted(set(step)) == [NEVER, BEFORE_SHARES, BEFORE_WORDS, BEFORE_ANSWER]
    np.testing.assert_array_equal(one.go(step), expected(one, step))


KINDS = {NEVER: "self", BEFORE_ANSWER: "self", BEFORE_WORDS: "pair", BEFORE_SHARES: None}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_server_gets_one_kind_of_share_of_each_and_never_both(data):
    """Taken apart by hand: what each answer holds, by what its sender was sent in boxes."""
    clients = data.draw(st.integers(4, 12))
    step = pattern(data.draw, clients, LOOSE.terms(clients).lost)
    one = Sum(clients)
    one.go(step)
    terms = one.server.terms
    seats = {at: Seat.unpack(seat, LOOSE) for at, seat in one.seats.items()}
    owner = {seat.place: at for at, seat in seats.items()}
    kinds = {at: set() for at in range(clients)}
    for holder, answer in one.up["answers"].items():
        seat, client = seats[holder], one.clients[holder]
        boxes = unpack_boxes(one.boxes[holder], terms)
        for place, box, seal, share in zip(
            terms.near(seat.place), boxes, client._seals, unpack_answer(answer, terms), strict=True
        ):
            if box is None:
                assert share is None
                continue
            both = secure_secrets.opened(box, seal, place, seat.place)
            assert both[:16] != both[16:]
            kinds[owner[place]].add({both[:16]: "self", both[16:]: "pair"}[share])
    assert kinds == {at: {KINDS[one]} - {None} for at, one in enumerate(step)}


def test_a_client_answers_once():
    one = Sum(6).to_boxes().to_list()
    here = unpack_survivors(one.lists[0], one.server.terms)
    other = here.copy()
    other[(one.place(0) + 1) % 6] = False
    one.clients[0].answer(one.lists[0])
    for again in (one.lists[0], pack_survivors(other)):
        with pytest.raises(BadMessage, match="out of turn, or twice"):
            one.clients[0].answer(again)


def test_after_a_list_that_it_refuses_a_client_answers_none():
    one = Sum(6).to_boxes().to_list()
    with pytest.raises(BadMessage, match="more clients are lost"):
        one.clients[0].answer(_only(one, range(3)))
    with pytest.raises(BadMessage, match="out of turn"):
        one.clients[0].answer(one.lists[0])


def _only(one, clients):
    here = np.zeros(len(one.clients), bool)
    here[[one.place(at) for at in clients]] = True
    return pack_survivors(here)


def test_lists_that_the_rules_do_not_allow_are_refused():
    one = Sum(9).to_boxes(without={8}).to_list()
    with pytest.raises(BadMessage, match="counts us as lost"):
        one.clients[0].answer(_only(one, range(1, 8)))
    silent = one.place(8)
    near = [at for at in range(1, 8) if silent in one.server.terms.near(one.place(at))]
    with pytest.raises(BadMessage, match="never shared"):
        one.clients[near[0]].answer(_only(one, range(9)))
    with pytest.raises(BadMessage, match="list of survivors"):
        one.clients[near[1]].answer(one.lists[2] + b"\0")
    with pytest.raises(BadMessage, match="list of survivors"):
        one.clients[near[2]].answer(b"")


def test_words_that_come_after_the_list_stay_masked():
    one = Sum(9).to_boxes()
    late = one.clients[0].masked(one.boxes[0], one.words[0])
    one.to_list(without={0})
    one.server.take(0, late)
    assert "nobody waits" in one.server.refused[0]
    step = np.array([BEFORE_WORDS] + [0] * 8)
    np.testing.assert_array_equal(one.to_end(), expected(one, step))
    # All that the server has: what is left on them is the self-mask.
    private = secure_secrets.masking_key(one.clients[0]._pairs, one.clients[0]._keys.sealing)
    words = unpack_words(late, WORDS)
    seat = Seat.unpack(one.seats[0], LOOSE)
    for other, keys in zip(one.server.terms.near(seat.place), seat.keys, strict=True):
        key = secure_secrets.agreed(private, keys.masking, b"masks" + seat.session)
        secure_secrets.add_stream(words, key, -1 if seat.place < other else 1)
    assert (words != one.words[0]).all()
    own = secure_secrets.self_key(one.clients[0]._own, seat.session)
    secure_secrets.add_stream(words, own, -1)
    np.testing.assert_array_equal(words, one.words[0])


def test_words_twice_or_of_one_that_never_shared_are_not_added():
    one = Sum(9).to_boxes(without={8})
    one.to_list(without=())
    one.server._announced = False
    one.server.take(0, one.up["words"][0])
    one.server.take(8, one.up["words"][0])
    one.server.take(77, one.up["words"][0])
    assert set(one.server.refused) == {0, 8, 77}
    step = np.array([0] * 8 + [BEFORE_SHARES])
    np.testing.assert_array_equal(one.to_end(), expected(one, step))


@pytest.mark.parametrize("step", ["shares", "words", "answers"])
def test_a_malformed_message_is_a_loss(step):
    one = Sum(9)
    real = one.server._read

    def spoilt(messages, unpack):
        messages = dict(messages)
        if 4 in messages and len(messages[4]) == len(one.up[step].get(4, b"")):
            messages[4] = messages[4][:-1]
        return real(messages, unpack)

    one.server._read = spoilt
    lost = {"shares": BEFORE_SHARES, "words": BEFORE_WORDS, "answers": BEFORE_ANSWER}[step]
    total = one.to_boxes().to_list().to_end()
    wanted = np.zeros(9)
    wanted[4] = lost
    np.testing.assert_array_equal(total, expected(one, wanted))
    assert "another form or length" in one.server.refused[4]


def test_wrong_shares_end_the_sum_and_give_none():
    for client, message in ((0, "survivor"), (8, "lost")):
        one = Sum(9)
        own = one.clients[client]
        if message == "survivor":
            own._own, real = bytes(16), own._own
        else:
            own._pairs, real = bytes(16), own._pairs
        one.to_boxes()
        own._own = real if message == "survivor" else own._own
        one.up["shares"] = {}
        if message == "survivor":
            mark = secure_secrets.mark_of(real, one.server._session)
            place = one.server._places[0]
            one.server._shared[place] = replace(one.server._shared[place], mark=mark)
        one.to_list(without=() if message == "survivor" else {8})
        with pytest.raises(TrainError, match="do not fit"):
            one.to_end()


def test_a_box_that_was_changed_on_the_way_is_left_out():
    one = Sum(9).to_boxes()
    spoilt = bytearray(one.boxes[0])
    spoilt[-1] ^= 1
    one.boxes[0] = bytes(spoilt)
    one.to_list()
    np.testing.assert_array_equal(one.to_end(), one.words.sum(axis=0, dtype=np.uint64))
    answer = unpack_answer(one.up["answers"][0], one.server.terms)
    assert sum(share is None for share in answer) == 1


def test_shares_fewer_than_the_threshold_rebuild_nothing():
    seed = bytes(range(16))
    shares = list(enumerate(secure_secrets.split(seed, 4, 7), start=1))
    assert secure_secrets.rebuilt(shares[3:]) == seed
    assert secure_secrets.rebuilt(shares[:3]) != seed


def test_what_goes_up_looks_uniform_and_never_repeats():
    found = []
    for _ in range(2):
        one = Sum(5, words=4000)
        one.words[:] = 0
        one.to_boxes().to_list()
        found += [unpack_words(message, 4000) for message in one.up["words"].values()]
    for words in found:
        assert abs(np.unpackbits(words.view(np.uint8)).mean() - 0.5) < 0.005
    flat = np.concatenate(found)
    assert len(np.unique(flat)) == len(flat)


def test_a_seat_that_cannot_be_is_refused():
    keys = {at: Client(LOOSE).join() for at in range(5)}
    seat = Server(LOOSE, WORDS).seat(keys)[0]
    for wrong in (b"", seat[:-1], seat + b"\0", b"\7" + seat[1:]):
        client = Client(LOOSE)
        client.join()
        with pytest.raises(BadMessage, match="seat"):
            client.share(wrong)
    found = Seat.unpack(seat, LOOSE)
    with pytest.raises(BadMessage, match="seat"):
        Seat.unpack(replace(found, place=5).pack(), LOOSE)
    twice = replace(found, keys=(found.keys[0],) * len(found.keys))
    client = Client(LOOSE)
    client.join()
    with pytest.raises(BadMessage, match="same public key"):
        client.share(twice.pack())
    low = replace(found, keys=(Keys(bytes(32), bytes([1]) + bytes(31)), *found.keys[1:]))
    client = Client(LOOSE)
    client.join()
    with pytest.raises(BadMessage, match="low order"):
        client.share(low.pack())


def test_a_client_whose_seeds_could_not_be_rebuilt_sends_no_words():
    one = Sum(9).to_boxes()
    terms = one.server.terms
    few = bytearray([one.boxes[0][0]]) + bytes((terms.neighbours + 7) // 8)
    with pytest.raises(BadMessage, match="are the threshold"):
        one.clients[0].masked(bytes(few), one.words[0])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(3, 12))
def test_whatever_is_sent_either_reads_or_is_refused(message, clients):
    terms = LOOSE.terms(clients)
    for read, pack in (
        (Keys.unpack, Keys.pack),
        (lambda m: Shares.unpack(m, terms), Shares.pack),
        (lambda m: Seat.unpack(m, LOOSE), Seat.pack),
        (lambda m: unpack_boxes(m, terms), pack_boxes),
        (lambda m: unpack_words(m, 4), pack_words),
        (lambda m: unpack_survivors(m, terms), pack_survivors),
        (lambda m: unpack_answer(m, terms), pack_answer),
    ):
        # A seat of fewer than three clients is refused with a JobError.
        with suppress(BadMessage, JobError):
            assert pack(read(message)) == message


def test_bytes_up_are_those_that_went_up():
    for lost in (BEFORE_SHARES, BEFORE_WORDS, BEFORE_ANSWER):
        step = np.zeros(20, np.int8)
        step[:2] = lost
        one = Sum(20, Rules())
        one.go(step)
        sent = sum(len(message) for of in one.up.values() for message in of.values())
        told = bytes_up(Drops(step), WORDS, one.server.terms)
        # Shares of neighbours that never shared are counted, and not sent.
        assert told - sent == (16 * 2 * one.server.terms.neighbours - _missing(one) * 16
                               if lost == BEFORE_SHARES else 0)  # fmt: skip


def _missing(one):
    """Answers that those who never shared would have received a share of each other in."""
    near = one.server.terms.near(one.place(0))
    return 2 if one.place(1) in near else 0


def test_drops_are_drawn_by_seed_and_never_more_than_are_tolerated():
    terms = Rules(lost=1 / 3).terms(30)
    first = Drops.drawn(1, 2, 0.2, terms)
    np.testing.assert_array_equal(first.step, Drops.drawn(1, 2, 0.2, terms).step)
    assert (first.step != NEVER).sum() == 6
    others = [Drops.drawn(1, 3, 0.2, terms), Drops.drawn(2, 2, 0.2, terms)]
    assert all((one.step != first.step).any() for one in others)
    assert (Drops.drawn(1, 2, 1 / 3, Rules(lost=0.1).terms(30)).step != NEVER).sum() == 3


@pytest.mark.parametrize("wrong", ["low sealing", "low masking", "one for both", "another's"])
def test_a_client_with_keys_that_no_neighbour_would_take_gets_no_seat(wrong):
    """Seated, it would have every neighbour refuse to go on, and so end the sum."""
    one = Sum(9)
    up = {at: client.join() for at, client in enumerate(one.clients)}
    own, other = Keys.unpack(up[0]), Keys.unpack(up[8])
    spoilt = {
        "low sealing": Keys(bytes(32), own.masking),
        "low masking": Keys(own.sealing, bytes([1]) + bytes(31)),
        "one for both": Keys(own.sealing, own.sealing),
        "another's": Keys(other.masking, own.masking),
    }[wrong]
    up[0] = spoilt.pack()
    seats = one.server.seat(up)
    gone = {0, 8} if wrong == "another's" else {0}
    assert set(one.server.refused) == gone == set(up) - set(seats)
    for at, seat in seats.items():
        one.clients[at].share(seat)
