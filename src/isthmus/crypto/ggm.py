"""Trees of pseudo-random keys of which one party may have all leaves but one, of its choice.

Goldreich, Goldwasser and Micali, "How to Construct Random Functions", J. ACM 1986: a node's two
children are a pseudo-random generator of it, so one root stands for all leaves. Who gets, on each
level, the exclusive or of all left children or that of all right children, whichever the path to a
leaf does not take, can work out all leaves but that one (punctured): Boyle et al., "Efficient
Two-Round OT Extension and Silent Non-Interactive Secure Computation", CCS 2019, section 4. By one
1-of-2 oblivious transfer a level, the owner of the root does not learn which.

The generator is s -> (pi_0(s) + s, pi_1(s) + s), where pi_0 and pi_1 are AES under fixed, public
keys, taken for ideal permutations (+ is the exclusive or). Who sees N nodes and works out T
permutations finds the parent of one of them with a probability of about N T / 2^128, as for all
fixed-key AES of many instances (Guo, Katz, Wang and Yu, IEEE S&P 2020).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from isthmus.crypto.blocks import Words, encrypt

Codes = npt.NDArray[np.int64]

# More digits of pi, following those of `blocks`.
_LEFT = bytes.fromhex("a4093822299f31d0082efa98ec4e6c89")
_RIGHT = bytes.fromhex("452821e638d01377be5466cf34e90c6c")


def levels(leaves: int) -> int:
    """Levels below the root of a tree of at least 2 leaves, and transfers to puncture it."""
    return (leaves - 1).bit_length()


def expanded(roots: Words, leaves: int) -> tuple[Words, Words]:
    """All leaves of each tree, and what a party that punctures it chooses from.

    Args:
        roots: uint64 `[n, 2]`.
        leaves: of each tree, at least 2; nodes that no leaf needs are left out.

    Returns:
        The leaves, uint64 `[n, leaves, 2]`, and for each level the exclusive or of all left and of
        all right children, uint64 `[n, levels, 2, 2]`.
    """
    nodes = roots[:, None, :]
    depth = levels(leaves)
    sums = np.empty((len(roots), depth, 2, 2), dtype=np.uint64)
    for level in range(depth):
        children = _children(nodes)
        np.bitwise_xor.reduce(children, axis=1, out=sums[:, level])
        nodes = _needed(children, leaves, level)
    return nodes, sums


def all_leaves(roots: Words, leaves: int) -> Words:
    """The leaves alone; see `expanded`."""
    nodes = roots[:, None, :]
    for level in range(levels(leaves)):
        nodes = _needed(_children(nodes), leaves, level)
    return nodes


def path(codes: Codes, leaves: int) -> npt.NDArray[np.bool_]:
    """On each level, whether the path to a leaf goes right, bool `[n, levels]`."""
    shifts = np.arange(levels(leaves) - 1, -1, -1)
    return ((codes[:, None] >> shifts) & 1).astype(np.bool_)


def punctured(codes: Codes, chosen: Words, leaves: int) -> tuple[Words, Words]:
    """All leaves of each tree but one, in whose place there is nothing of meaning.

    Args:
        codes: int64 `[n]`, the leaf that is left out.
        chosen: uint64 `[n, levels, 2]`, of `expanded`'s sums those that `path` does not take.
        leaves: as for `expanded`.

    Returns:
        The leaves, uint64 `[n, leaves, 2]`, and the nodes beside the path, of which they can be
        made again, like `chosen`.
    """
    rows = np.arange(len(codes))
    beside = 1 - path(codes, leaves).astype(np.int64)
    found = np.empty_like(chosen)

    def sibling(level: int, children: Words) -> Words:
        others = np.bitwise_xor.reduce(children, axis=1)[rows, beside[:, level]]
        np.bitwise_xor(chosen[:, level], others, out=found[:, level])
        return found[:, level]

    return _around(codes, leaves, sibling), found


def around(codes: Codes, beside: Words, leaves: int) -> Words:
    """The leaves that `punctured` gave, of the nodes beside the path."""
    return _around(codes, leaves, lambda level, _: beside[:, level])


def _around(codes: Codes, leaves: int, sibling: Callable[[int, Words], Words]) -> Words:
    """All leaves but one; `sibling` gives the node beside the path on a level."""
    rows = np.arange(len(codes))
    right = path(codes, leaves).astype(np.int64)
    nodes = np.zeros((len(codes), 1, 2), dtype=np.uint64)
    at = np.zeros(len(codes), dtype=np.int64)
    for level in range(levels(leaves)):
        children = _children(nodes)
        children[rows, at] = 0  # the path's own, made of nothing
        children[rows, at, 1 - right[:, level]] = sibling(level, children)
        at = 2 * at + right[:, level]
        nodes = _needed(children, leaves, level)
    return nodes


def _children(nodes: Words) -> Words:
    """Left and right child of each node, uint64 `[n, w, 2, 2]` of `[n, w, 2]`."""
    given = np.ascontiguousarray(nodes)
    children = np.empty((*given.shape[:2], 2, 2), dtype=np.uint64)
    for side, key in enumerate((_LEFT, _RIGHT)):
        made = encrypt(key, given)
        made ^= given
        # A node as one item of 16 bytes moves faster than as two words.
        children.view(np.complex128)[:, :, side] = made.view(np.complex128)
    return children


def _needed(children: Words, leaves: int, level: int) -> Words:
    """The nodes of the next level that have leaves below them, uint64 `[n, w, 2]`."""
    below = levels(leaves) - level - 1
    width = -(-leaves // (1 << below))
    return children.reshape(len(children), -1, 2)[:, :width]
