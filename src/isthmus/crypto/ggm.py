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
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from isthmus.crypto.blocks import BLOCK_WORDS, Words

Codes = npt.NDArray[np.int64]

# More digits of pi, following those of `blocks`.
_LEFT = bytes.fromhex("a4093822299f31d0082efa98ec4e6c89")
_RIGHT = bytes.fromhex("452821e638d01377be5466cf34e90c6c")


class Room:
    """Memory and ciphers for trees, used again and again: fresh memory costs more than AES.

    What is made in it is a view, whose content is lost when the next thing is made. One thread uses
    it at a time.
    """

    def __init__(self) -> None:
        self._turn = 0
        self._buffers = [np.empty(0, dtype=np.uint64) for _ in range(3)]
        self._generator = [cipher(key) for key in (_LEFT, _RIGHT)]

    def empty(self, shape: tuple[int, ...]) -> Words:
        """Room for an array of an even number of words; the one before the last is lost."""
        self._turn = 1 - self._turn
        return self._buffer(self._turn, shape)

    def encrypted(self, by: Any, blocks: Words) -> Words:
        """AES of each block, of contiguous words, in a shape like `blocks`; see `empty`."""
        out = self.empty(blocks.shape)
        _through(by, blocks, self._buffers[self._turn])
        return out

    def children(self, nodes: Words) -> Words:
        """Left and right child of each node, uint64 `[w, 2, n, 2]` of `[w, n, 2]`; see `empty`."""
        width, count, _ = nodes.shape
        out = self.empty((width, 2, count, BLOCK_WORDS))
        made = self._buffer(2, nodes.shape)
        for side, by in enumerate(self._generator):
            _through(by, nodes, self._buffers[2])
            np.bitwise_xor(made, nodes, out=out[:, side])
        return out

    def _buffer(self, number: int, shape: tuple[int, ...]) -> Words:
        size = int(np.prod(shape))
        if self._buffers[number].size < size + BLOCK_WORDS:
            # The library wants room for one block more.
            self._buffers[number] = np.empty(size + BLOCK_WORDS, dtype=np.uint64)
        return self._buffers[number][:size].reshape(shape)


def cipher(key: bytes) -> Any:
    """AES under a key, block by block, for `Room.encrypted`."""
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor()


def levels(leaves: int) -> int:
    """Levels below the root of a tree of at least 2 leaves, and transfers to puncture it."""
    return (leaves - 1).bit_length()


def expanded(roots: Words, leaves: int, room: Room | None = None) -> tuple[Words, Words]:
    """All leaves of each tree, and what a party that punctures it chooses from.

    Args:
        roots: uint64 `[n, 2]`.
        leaves: of each tree, at least 2; nodes that no leaf needs are left out.
        room: to make them in.

    Returns:
        The leaves, uint64 `[leaves, n, 2]`, in the room, and for each level the exclusive or of all
        left and of all right children, uint64 `[levels, 2, n, 2]`.
    """
    room, nodes, depth = room or Room(), roots[None], levels(leaves)
    sums = np.empty((depth, 2, *roots.shape), dtype=np.uint64)
    for level in range(depth):
        children = room.children(nodes)
        np.bitwise_xor.reduce(children, axis=0, out=sums[level])
        nodes = _needed(children, leaves, level)
    return nodes, sums


def all_leaves(roots: Words, leaves: int, room: Room | None = None) -> Words:
    """The leaves alone; see `expanded`."""
    room, nodes = room or Room(), roots[None]
    for level in range(levels(leaves)):
        nodes = _needed(room.children(nodes), leaves, level)
    return nodes


def path(codes: Codes, leaves: int) -> npt.NDArray[np.bool_]:
    """On each level, whether the path to a leaf goes right, bool `[levels, n]`."""
    shifts = np.arange(levels(leaves) - 1, -1, -1)[:, None]
    return ((codes >> shifts) & 1).astype(np.bool_)


def punctured(
    codes: Codes, chosen: Words, leaves: int, room: Room | None = None
) -> tuple[Words, Words]:
    """All leaves of each tree but one, in whose place there is nothing of meaning.

    Args:
        codes: int64 `[n]`, the leaf that is left out.
        chosen: uint64 `[levels, n, 2]`, of `expanded`'s sums those that `path` does not take.
        leaves: as for `expanded`.
        room: to make them in.

    Returns:
        The leaves, uint64 `[leaves, n, 2]`, in the room, and the nodes beside the path, of which
        they can be made again, like `chosen`.
    """
    found = np.empty_like(chosen)

    def sibling(level: int, children: Words, at: tuple[Codes, Codes, Codes]) -> Words:
        sums = np.bitwise_xor.reduce(children, axis=0)[at[1], at[2]]
        # Less what was made of the node on the path, which is not known.
        sums ^= children[at]
        made: Words = found[level]
        np.bitwise_xor(chosen[level], sums, out=made)
        return made

    return _around(codes, leaves, sibling, room or Room()), found


def around(codes: Codes, beside: Words, leaves: int, room: Room | None = None) -> Words:
    """The leaves that `punctured` gave, of the nodes beside the path."""
    return _around(codes, leaves, lambda level, *_: beside[level], room or Room())


def _around(
    codes: Codes,
    leaves: int,
    sibling: Callable[[int, Words, tuple[Codes, Codes, Codes]], Words],
    room: Room,
) -> Words:
    """All leaves but one; `sibling` gives the node beside the path on a level."""
    trees = np.arange(len(codes))
    right = path(codes, leaves).astype(np.int64)
    nodes = np.zeros((1, len(codes), BLOCK_WORDS), dtype=np.uint64)
    on_path = np.zeros(len(codes), dtype=np.int64)
    for level in range(levels(leaves)):
        children = room.children(nodes)
        at = (on_path, 1 - right[level], trees)
        # A node as one item of 16 bytes moves faster than as two words.
        items = np.ascontiguousarray(sibling(level, children, at)).view(np.complex128)[:, 0]
        children.view(np.complex128)[..., 0][at] = items
        on_path = 2 * on_path + right[level]
        nodes = _needed(children, leaves, level)
    return nodes


def _needed(children: Words, leaves: int, level: int) -> Words:
    """The nodes of the next level that have leaves below them, uint64 `[w, n, 2]`."""
    below = levels(leaves) - level - 1
    width = -(-leaves // (1 << below))
    count = children.shape[2]
    return children.reshape(-1, count, BLOCK_WORDS)[:width]


def _through(by: Any, blocks: Words, out: Words) -> None:
    by.update_into(blocks.reshape(-1).view(np.uint8).data, out.view(np.uint8).data)
