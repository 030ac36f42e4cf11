r"""Gradient steps under the key of an arbiter, who has no data and sees masked sums alone.

The protocol of Hardy et al., arXiv:1711.10677, as in FATE's hetero LR, with packed ciphertexts. The
loss is a square in the linear predictor: that of linear regression, or the logistic one's
second-order Taylor series at zero. The label party L has links to the arbiter C and to each feature
party B, and relays between these; every party makes steps of its own (`taylor`). In each step, for
the rows of a batch::

    B -> L       linear.predictor  [u_B], B's part of the linear predictor, under C's key
    L -> B       linear.residuals  [d], d = u_L + all u_B - t: t are L's labels, shifted
    B -> L -> C  linear.products   B's columns times [d], each slot with a uniform mask
    C -> L -> B  linear.sums       the masked sums; B takes its masks off and makes its step

and L does the same for its own columns. Before, `linear.arbiter` and `linear.key` bring C's key to
L, and `linear.hello` takes it to B, with the unit of the predictor in `linear.start`. After an
epoch, B says whether its steps have come to rest (`linear.settled`), and L whether it was the last
(`linear.epoch`): when all have, or after `epochs`. At the end B sends L its
coefficients' sum times its columns' means (`linear.shift`).

**Security model: semi-honest, and the arbiter colludes with nobody**: with L it could open what B
sends, with B what L sends. What each side learns:

- C: the numbers of rows, columns, steps and epochs. What it decrypts is uniform (`products`).
- L: of each B the number of columns, a bit per epoch, one mean; and its own gradients, so how its
  columns go with B's part of the predictor. What it relays is encrypted, or masked.
- B: its own gradients, and the size of the label in linear regression.

A gradient of a batch is q sums over its rows, q the party's columns. Batches are the same in every
epoch, so that all epochs together tell no more than q combinations of a batch's labels and of L's
columns: batches drawn anew would, in the end, tell all labels. So `rows_per_column` is of the rows
of a batch, and `least_group` and `most_leverage` hold in each, at L too. And a batch has
`LEAST_BATCH` rows: two exact sums over forty rows are enough to find all forty 0/1 labels, by going
through the 2^20 of each half.

**Precision.** As in `precision`, of the rows of a batch; a part of the predictor may be up to
`MOST`, in the label's unit, and takes five bits of the residual's for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.crypto import he, products
from isthmus.crypto.products import Shape
from isthmus.errors import BadMessage, DataError, JobError, TrainError
from isthmus.linear import wire
from isthmus.linear.options import LinearOptions
from isthmus.linear.precision import MOST_ROWS, Precision
from isthmus.linear.result import LinearResult
from isthmus.linear.span import Span
from isthmus.linear.taylor import Rows, batches
from isthmus.link import Link, Message, checks
from isthmus.session import PATIENCE, Session

Floats = NDArray[np.float64]
Longs = NDArray[np.int64]

MOST = 32.0
"""What a party may add to the linear predictor of a row."""
LEAST_BATCH = 200
"""Rows of a batch, where there are several."""


def parts_of(session: Session, rows: int, options: LinearOptions) -> list[Rows]:
    """The rows of each batch, int64, as all parties with data draw them."""
    return batches(rows, options, session.shared_rng("linear.batches"))


@dataclass(frozen=True)
class Plan:
    """What all parties with data know of the steps."""

    parts: Sequence[Rows]
    """The batches."""
    parties: int
    """That make steps."""
    precision: Precision
    bits: int
    """After the point, of the predictor."""

    @classmethod
    def of(cls, session: Session, rows: int, options: LinearOptions) -> Plan:
        """The plan for so many rows. Raises JobError if they are too many, or batches too small."""
        parts = parts_of(session, rows, options)
        if len(parts) > 1 and min(map(len, parts)) < LEAST_BATCH:
            raise JobError(
                f"batches of {min(map(len, parts))} rows are too small: the labels that make up a "
                f"sum of fewer than {LEAST_BATCH} could be searched for",
                mend="Raise batch_size.",
            )
        parties = len(session.parties) - 1
        precision = Precision.of(max(map(len, parts)))
        bits = precision.residual - int(MOST).bit_length() + 1 - (parties - 1).bit_length()
        return cls(parts, parties, precision, bits)

    @property
    def least(self) -> int:
        """Rows of the smallest batch."""
        return min(map(len, self.parts))

    def whole(self, values: Floats) -> Longs:
        """A party's part of the predictor as whole numbers. Raises TrainError."""
        if not np.abs(values).max() <= MOST:
            raise TrainError(
                f"the linear predictor of a row went beyond {MOST:g}",
                mend="Lower learning_rate, or clip the columns, or the label of a regression.",
            )
        return np.asarray(np.rint(np.ldexp(values, self.bits)), np.int64)

    def check(self, data: Floats, options: LinearOptions, *, label: bool = False) -> None:
        """See that no batch tells of few rows.

        Args:
            data: the own columns, float64 [rows, columns].
            options: as agreed.
            label: whether the label is one more column of the sums (`arbiter_loss`).

        Raises:
            DataError: it does, or it has too few rows for the columns.
        """
        columns = data.shape[1] + label
        if columns * options.rows_per_column > self.least:
            many = len(self.parts) > 1
            rows = f"a batch of {self.least} rows has" if many else f"{self.least} rows are"
            raise DataError(
                f"{rows} fewer than {options.rows_per_column} for each of the {columns} own "
                f"columns{', of which the label is one, as the loss ends the training' * label}",
                mend=f"{'Raise batch_size' if many else 'Take more rows'}, or take fewer columns; "
                "rows_per_column sets the bound.",
            )
        for part in self.parts if len(self.parts) > 1 and data.shape[1] else ():
            Span(data[part], options, least_columns=0)


class Sums:
    """A party's side of the encrypted products with its own columns.

    Args:
        public: the arbiter's key.
        plan: of the steps.
        basis: the columns, float64 [rows, coordinates].
    """

    def __init__(self, public: he.HePublic, plan: Plan, basis: Floats) -> None:
        self._public, self._plan = public, plan
        self._columns, self._units = plan.precision.columns(basis)
        self._asked = self._units
        self._off = np.empty(0, np.int64)

    @property
    def count(self) -> int:
        """Columns."""
        return len(self._units)

    def predictor(self, values: Floats) -> list[he.Cipher]:
        """A part of the linear predictor, encrypted; as often as there is room in a ciphertext."""
        return products.encrypted(
            self._public, Shape(len(values), he.SLOTS), self._plan.whole(values)
        )

    def masked(
        self, rows: Rows, asked: Sequence[he.Cipher], also: Floats | None = None
    ) -> dict[str, NDArray[np.generic]]:
        """The products of a batch, for the arbiter.

        Args:
            rows: of the batch.
            asked: what the columns are multiplied by.
            also: another column, float64 [len(rows)], behind the own ones, for this batch alone.
        """
        columns, self._asked = self._columns[rows], self._units
        if also is not None:
            more, unit = self._plan.precision.columns(also[:, None])
            columns, self._asked = np.hstack([columns, more]), np.r_[self._units, unit]
        shape = Shape(len(rows), len(self._asked))
        answers, self._off = products.masked(self._public, shape, asked, columns)
        return he.pack(answers)

    def opened(self, link: Link, message: Message) -> Floats:
        """The products, float64 [columns], from what the arbiter opened. Raises BadMessage."""
        return self.unmasked(take_sums(link, message, len(self._asked)))

    def unmasked(self, sums: Longs) -> Floats:
        """The products, float64 [columns], of masked sums, int64 [columns]."""
        return np.ldexp(products.unmasked(sums, self._off) * self._asked, -self._plan.bits)


def take_sums(link: Link, message: Message, columns: int) -> Longs:
    """Masked sums, int64 [columns]. Raises BadMessage."""
    sums = wire.take(link, message, "sums", np.int64, (columns,))
    if (np.abs(sums) > he.HALF).any():
        raise BadMessage(f"{link.partner} sent sums beyond the modulus")
    return np.asarray(sums, np.int64)


def fit_as_arbiter(session: Session, options: LinearOptions) -> LinearResult:
    """Decrypt masked sums until the label party says that it is done: see the module."""
    link, key = session.hub, he.HeKey()
    start = link.recv("linear.arbiter", timeout=PATIENCE)
    checks.same(link, start, options.agreed())
    rows = checks.whole(link, start, "rows", 1, MOST_ROWS)
    parts = batches(rows, options, np.random.default_rng(0))
    sizes = tuple({len(part) for part in parts})
    link.send("linear.key", {"key": key.public()})
    steps = options.epochs * len(parts)
    left = steps * (len(session.parties) - 1)
    with session.progress.task("fit", left) as task:
        while True:
            message = link.recv("linear.products", timeout=PATIENCE)
            if wire.choice(link, message, "done", (True, False)):
                break
            if not left:
                raise BadMessage(f"{link.partner} asks for more sums than were agreed")
            left -= 1
            columns = checks.whole(link, message, "columns", 1, wire.MOST_COLUMNS + 2)
            shape = Shape(wire.choice(link, message, "rows", sizes), columns)
            answers = he.unpack(key, dict(message.tensors), shape.answered)
            link.send("linear.sums", {"sums": products.opened(key, shape, answers)})
            task.advance()
    return LinearResult(
        options=options,
        coefficients=np.empty(0),
        rounds=checks.whole(link, message, "steps", 0, steps),
        converged=wire.choice(link, message, "converged", (True, False)),
        shown=0,
    )
