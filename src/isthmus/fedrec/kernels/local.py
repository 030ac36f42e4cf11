"""The client step, compiled: a client at a time, its touched rows in a buffer of its own.

A backbone gives the gradient of its loss on a batch; all the rest (samples, batches, optimiser,
early stop, pull to a reference, what goes up) is here, the same for all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from isthmus.fedrec import randomness
from isthmus.fedrec.compiled import compiled, inlined
from isthmus.fedrec.kernels.arrays import Array, Knobs, Pull, Sent, Sizes, Starts, State, Toward
from isthmus.fedrec.kernels.optimiser import add_pull, move
from isthmus.fedrec.kernels.samples import draw, most_samples

BOTH, USER_ONLY, ROWS_ONLY = 0, 1, 2
_SHUFFLE = randomness.SHUFFLE


@inlined
def _gather(drawn: Array, size: int, place_of: Array, ids: Array, counts: Array) -> int:
    """Distinct items of `drawn[:size]`, ascending, to `ids`; how often each comes to `counts`.

    Turns `drawn` into places in `ids`. `place_of` is int32 [M], all -1 before and after.
    """
    distinct = 0
    for sample in range(size):
        if place_of[drawn[sample]] < 0:
            place_of[drawn[sample]] = 0
            ids[distinct] = drawn[sample]
            distinct += 1
    if distinct * 8 < place_of.size:
        ids[:distinct].sort()
    else:  # so many that going through all items is quicker than sorting
        distinct = 0
        for item in range(place_of.size):
            if place_of[item] == 0:
                ids[distinct] = item
                distinct += 1
    for place in range(distinct):
        place_of[ids[place]] = place
        counts[place] = 0
    for sample in range(size):
        drawn[sample] = place_of[drawn[sample]]
        counts[drawn[sample]] += 1
    for place in range(distinct):
        place_of[ids[place]] = -1
    return distinct


@inlined
def _shuffle(state: np.uint64, samples: Array, labels: Array, size: int) -> np.uint64:
    for i in range(size - 1, 0, -1):
        state, j = randomness.below(state, i + 1)
        samples[i], samples[j] = samples[j], samples[i]
        labels[i], labels[j] = labels[j], labels[i]
    return state


@inlined
def _move_user(state: State, toward: Toward, knobs: Knobs, step: int) -> None:
    if toward.keep.size > 0:
        add_pull(state.g_network, state.network, toward.network, toward.keep[0], toward.to[0])
    move(
        knobs, state.user, state.g_user, state.m_user, state.v_user,
        knobs.user_rate, knobs.decay, step,
    )  # fmt: skip
    move(
        knobs, state.network, state.g_network, state.m_network, state.v_network,
        knobs.network_rate, knobs.network_decay, step,
    )  # fmt: skip


@inlined
def _move_rows(state: State, toward: Toward, knobs: Knobs, step: int) -> None:
    if toward.keep.size > 0:
        width = toward.rows.shape[1]
        for k in range(state.ids.size):
            add_pull(
                state.g_rows[k, :width], state.rows[k, :width], toward.rows[k],
                toward.keep[0], toward.to[0],
            )  # fmt: skip
    move(
        knobs, state.rows.ravel(), state.g_rows.ravel(), state.m_rows, state.v_rows,
        knobs.rate, knobs.decay, step,
    )  # fmt: skip


@inlined
def _slow(samples, labels, rows, user, rate, user_rate, errors):
    return 0.0


def _epochs(
    gradient: Callable[..., Any], descend: Callable[..., Any] | None
) -> Callable[..., float]:
    """All local epochs of one client; returns its mean loss over the round."""
    short, straight = descend is not None, descend or _slow

    @inlined
    def batch(samples, labels, state, toward, extra, scratch, errors, knobs, step):
        plain = knobs.alternate and not knobs.adam and knobs.decay == 0 and toward.keep.size == 0
        if short and plain:
            return straight(
                samples, labels, state.rows, state.user, knobs.rate, knobs.user_rate, errors
            )
        loss = 0.0
        for phase in range(2 if knobs.alternate else 1):
            want = phase + 1 if knobs.alternate else BOTH
            loss = gradient(
                want, samples, labels, state.ids, state.rows, state.user, state.network, extra,
                state.g_rows, state.g_user, state.g_network, scratch,
            )  # fmt: skip
            if want != ROWS_ONLY:
                _move_user(state, toward, knobs, step)
            if want != USER_ONLY:
                _move_rows(state, toward, knobs, step)
        return loss

    @inlined
    def epochs(samples, labels, size, state, toward, extra, scratch, errors, knobs, random):
        step, total, seen, before = 0, 0.0, 0, 0.0
        for epoch in range(knobs.epochs if size > 0 else 0):
            random = _shuffle(random, samples, labels, size)
            for at in range(0, size, knobs.batch):
                to = min(at + knobs.batch, size)
                step += 1
                loss = batch(
                    samples[at:to], labels[at:to], state, toward, extra, scratch, errors, knobs,
                    step,
                )  # fmt: skip
                total += loss * (to - at)
                seen += to - at
            # The mean over all batches of the round so far, as the reference programs have it.
            mean = total / seen
            if epoch > 0 and abs(mean - before) / abs(before + 1e-5) < knobs.tolerance:
                break
            before = mean
        return total / seen if seen > 0 else 0.0

    return epochs


@inlined
def _state_of(
    ids: Array, sizes: Sizes, adam: bool, buffers: Array, vectors: Array, networks: Array
) -> State:
    """Views of the buffers for a client that touches `ids`; zeroed but for the parameters."""
    count, width = ids.size, sizes.shared + sizes.own
    end = count * width
    buffers[1, :end] = 0
    if adam:
        buffers[2:, :end] = 0
    vectors[1:] = 0
    networks[1:] = 0
    return State(
        ids, buffers[0, :end].reshape(count, width), vectors[0], networks[0],
        buffers[1, :end].reshape(count, width), vectors[1], networks[1],
        buffers[2, :end], vectors[2], networks[2], buffers[3, :end], vectors[3], networks[3],
    )  # fmt: skip


@inlined
def _load(state: State, sizes: Sizes, starts: Starts, client: int, user: Array) -> None:
    # Number by number: Numba takes longer to assign a slice than to copy a short row.
    table, width = starts.of[client], sizes.shared
    for k in range(state.ids.size):
        item = state.ids[k]
        for j in range(width):
            state.rows[k, j] = starts.items[table, item, j]
        for j in range(sizes.own):
            state.rows[k, width + j] = starts.own[client, item, j]
    state.user[:] = user
    state.network[:] = starts.network[table]


@inlined
def _toward_of(pull: Pull, client: int, ids: Array, references: Array, network: Array) -> Toward:
    if pull.keep.size == 0:
        return Toward(references, network, pull.keep, pull.to)
    for k in range(ids.size):
        for j in range(references.shape[1]):
            references[k, j] = pull.items[pull.of[client], ids[k], j]
    one = slice(client, client + 1)
    return Toward(references, pull.network[pull.of[client]], pull.keep[one], pull.to[one])


@inlined
def _store(state: State, sizes: Sizes, starts: Starts, client: int, sent: Sent, place: int) -> None:
    begin, width = sent.indptr[place], sizes.shared
    sent.user[place] = state.user
    sent.network[place] = state.network
    for k in range(state.ids.size):
        for j in range(width):
            sent.rows[begin + k, j] = state.rows[k, j]
        for j in range(sizes.own):
            starts.own[client, state.ids[k], j] = state.rows[k, width + j]


@inlined
def _label(labels: Array, size: int, positives: int) -> None:
    """Each training item stands first of an equal group of samples."""
    labels[:size] = 0
    if size > 0:
        labels[: size : size // positives] = 1


def client_step(
    gradient: Callable[..., Any], descend: Callable[..., Any] | None = None
) -> Callable[..., None]:
    """The compiled client step of a backbone: trains `clients[first:last]`, results to `sent`.

    `gradient` and `descend` are what `isthmus.fedrec.backbones.Backbone` says.
    """
    epochs = _epochs(gradient, descend)

    @compiled
    def train(first, last, clients, shard, sizes, knobs, starts, pull, extra, sent):
        most = most_samples(shard, clients, first, last, knobs.negatives)
        bound = min(most, shard.table)
        is_avoided = np.zeros(shard.table, np.bool_)
        place_of = np.full(shard.table, -1, np.int32)
        samples, labels = np.empty(most, np.int32), np.empty(most, np.float32)
        buffers = np.empty((4, bound * (sizes.shared + sizes.own)), np.float32)
        vectors = np.empty((4, sizes.user), np.float32)
        networks = np.empty((4, sizes.network), np.float32)
        scratch = np.zeros(sizes.scratch, np.float32)
        errors = np.empty(min(most, knobs.batch), np.float32)
        references = np.empty((bound if pull.keep.size > 0 else 0, sizes.shared), np.float32)
        for place in range(first, last):
            client = clients[place]
            size = draw(
                shard, client, knobs.negatives, knobs.seed, knobs.drawn_in, is_avoided, samples
            )
            _label(labels, size, shard.indptr[client + 1] - shard.indptr[client])
            begin, end = sent.indptr[place], sent.indptr[place + 1]
            ids = sent.items[begin:end]
            _gather(samples, size, place_of, ids, sent.counts[begin:end])
            state = _state_of(ids, sizes, knobs.adam, buffers, vectors, networks)
            _load(state, sizes, starts, client, sent.user[place])
            toward = _toward_of(pull, client, ids, references, networks[3])
            random = randomness.stream(knobs.seed, _SHUFFLE, knobs.number, shard.identity[client])
            sent.loss[place] = epochs(
                samples, labels, size, state, toward, extra, scratch, errors, knobs, random
            )
            _store(state, sizes, starts, client, sent, place)

    return train


def scorer(score: Callable[..., Any]) -> Callable[..., None]:
    """The compiled scoring of ragged candidates; `score` as in `Backbone.score`."""

    @compiled
    def scores(
        first, last, clients, sizes, starts, user, touched, begin, count, candidates, extra, out, at
    ):
        row = np.empty(sizes.shared + sizes.own, np.float32)
        scratch = np.zeros(sizes.scratch, np.float32)
        trained = touched.indptr.size > 1
        for place in range(first, last):
            client = clients[place]
            table = starts.of[client]
            net = touched.network[place] if trained else starts.network[table]
            ids = touched.items[0:0]
            if trained:
                ids = touched.items[touched.indptr[place] : touched.indptr[place + 1]]
            for k in range(count[place]):
                item = candidates[begin[place] + k]
                row_of = np.searchsorted(ids, item) if trained else 0
                if trained and row_of < ids.size and ids[row_of] == item:
                    for j in range(sizes.shared):
                        row[j] = touched.rows[touched.indptr[place] + row_of, j]
                else:
                    for j in range(sizes.shared):
                        row[j] = starts.items[table, item, j]
                for j in range(sizes.own):
                    row[sizes.shared + j] = starts.own[client, item, j]
                out[at[place] + k] = score(item, row, user[place], net, extra, scratch)

    return scores
