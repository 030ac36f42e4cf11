"""iALS on the pooled interactions: what matrix factorisation reaches where nothing is private.

Hu, Koren, Volinsky: Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008, with the
weights and the advice of Rendle, Krichene, Zhang, Koren: Revisiting the Performance of iALS on Item
Recommendation Benchmarks, RecSys 2022 (arXiv 2110.14037). It minimises

    sum_{(u,i) in S} (p_u.q_i - 1)^2 + alpha sum_u sum_i (p_u.q_i)^2
        + lambda (sum_u (n_u + alpha M)^nu |p_u|^2 + sum_i (n_i + alpha U)^nu |q_i|^2)

row by row: `p_u` solves `(sum_{i in S_u} q_i q_i' + alpha Q'Q + lambda (n_u + alpha M)^nu I) p =
sum_{i in S_u} q_i`, `q_i` likewise. A round solves for all items, then for all users; the round is
chosen on validation by the run, which is the paper's early stop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from isthmus.errors import JobError
from isthmus.fedrec import randomness
from isthmus.fedrec.algorithms._pooled import Pooled, turned
from isthmus.fedrec.compiled import compiled, inlined
from isthmus.fedrec.method import Algorithm
from isthmus.fedrec.population import Floats, Ragged
from isthmus.fedrec.task import Model, Task


@dataclass(frozen=True)
class Settings:
    """iALS's numbers; chosen on validation items of ML-100K and FilmTrust, `honest-sampled`."""

    factors: int = 64
    """d, numbers a vector."""
    unobserved: float = 0.3
    """alpha, weight of every pair, beside 1 for a pair that is there."""
    ridge: float = 0.01
    """lambda."""
    frequency: float = 1.0
    """nu: how much more those with many interactions are drawn to 0."""

    def __post_init__(self) -> None:
        if self.factors < 1:
            raise JobError("factors must be 1 or more")
        if not (self.unobserved > 0 and self.ridge > 0):
            raise JobError("unobserved and ridge must be above 0")


class Ials(Pooled):
    """Alternating least squares; deterministic, whatever the number of threads."""

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__(task)
        self.settings = settings
        self._of_users = task.population.train
        self._of_items = turned(self._of_users, task.population.items)
        rng, d = task.generator(randomness.START), settings.factors
        first = rng.standard_normal((task.population.items, d), np.float32)
        self.items = first * np.float32(0.1 / math.sqrt(d))
        self.users = self._solved(self._of_users, self.items)

    def sweep(self, number: int) -> None:
        """Solve for the items, then for the users."""
        self.items = self._solved(self._of_items, self.users)
        self.users = self._solved(self._of_users, self.items)

    def _solved(self, lists: Ragged, table: Floats) -> Floats:
        settings = self.settings
        counts = lists.counts
        weighed = counts + settings.unobserved * len(table)
        ridge = settings.ridge * weighed**settings.frequency
        every = table.astype(np.float64)
        gram = settings.unobserved * _gram(every)
        out = np.empty((len(counts), settings.factors), np.float32)

        def work(first: int, last: int) -> None:
            solve_rows(first, last, lists.indptr, lists.items, every, gram, ridge, out)

        self.task.spread(work, counts + settings.factors)
        return out


@compiled
def _gram(table: np.ndarray) -> np.ndarray:
    """Q'Q, added up in the order of the rows: a BLAS's order may follow its threads."""
    d = table.shape[1]
    out = np.zeros((d, d))
    for row in table:
        for a in range(d):
            for b in range(d):
                out[a, b] += row[a] * row[b]
    return out


@inlined
def _solve(matrix: np.ndarray, right: np.ndarray) -> None:
    """The solution of a positive definite system, into `right`; only the upper triangle is read.

    Cholesky's `R'R`, with rows of R in place of those of the matrix.
    """
    d = right.size
    for k in range(d):
        root = math.sqrt(matrix[k, k])
        for j in range(k, d):
            matrix[k, j] /= root
        for i in range(k + 1, d):
            factor = matrix[k, i]
            for j in range(i, d):
                matrix[i, j] -= factor * matrix[k, j]
    for k in range(d):
        right[k] /= matrix[k, k]
        for j in range(k + 1, d):
            right[j] -= matrix[k, j] * right[k]
    for k in range(d - 1, -1, -1):
        total = right[k]
        for j in range(k + 1, d):
            total -= matrix[k, j] * right[j]
        right[k] = total / matrix[k, k]


@compiled
def solve_rows(
    first: int, last: int, indptr: np.ndarray, others: np.ndarray, table: np.ndarray,
    gram: np.ndarray, ridge: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """Rows `first` to `last` - 1 of `out`, each the least squares answer to its row of `others`.

    Args:
        indptr, others: for each row the rows of `table` that it has, int64 and int32.
        table: float64 [n, d]; gram: alpha times its Gram matrix, float64 [d, d].
        ridge: float64, one a row; out: float32 [rows, d], written to.
    """
    d = table.shape[1]
    matrix, right = np.empty((d, d)), np.empty(d)
    for row in range(first, last):
        matrix[:] = gram
        right[:] = 0
        for k in range(d):
            matrix[k, k] += ridge[row]
        for place in range(indptr[row], indptr[row + 1]):
            other = table[others[place]]
            for a in range(d):
                right[a] += other[a]
                for b in range(a, d):
                    matrix[a, b] += other[a] * other[b]
        _solve(matrix, right)
        for k in range(d):
            out[row, k] = right[k]


def _build(task: Task, settings: Settings, model: Model | None) -> Ials:
    return Ials(task, settings)


ALGORITHM = Algorithm(
    name="ials",
    title="iALS",
    paper="Hu, Koren, Volinsky, ICDM 2008; Rendle et al., RecSys 2022",
    leaves="interactions",
    private="nothing",
    settings=Settings,
    build=_build,
    rounds=20,
    kind="ceiling",
)
