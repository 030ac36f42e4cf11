r"""Generalised linear models over columns of several parties, without showing the label or columns.

What follows is the protocol `vectors`; `moments` and `arbiter` have modules of their own. The label
party L minimises the loss exactly, by Newton's method, over its own columns and a few vectors that
the feature parties have shown it; a feature party B adds, in each round, the vector that lowers the
loss fastest, which it finds by an encrypted gradient. This is the sequential subspace method
(Narkiss and Zibulevsky, Technion CCIT 559, 2005), conjugate gradients for a quadratic loss. It ends
at the pooled optimum, at the latest when B has shown as many vectors as it has independent columns;
as B whitens its columns (`span`), mostly long before. For each B::

    L -> B   linear.hello      options, rows; L's public key, fresh in every fit
    B -> L   linear.hello      options, rows, the number q of B's independent columns
    L -> B   linear.start      L's mean curvature: B makes its basis Z, [rows, q]
    then in each round
    L -> B   linear.residuals  the residuals r, encrypted; the weights of the directions so far
    B -> L   linear.products   Z's columns times r, encrypted, each slot with a uniform mask
    L -> B   linear.sums       the masked sums; B takes its masks off and has Z'r
    B -> L   linear.direction  the vector Z u, [rows], u the new part of the gradient, of length 1
    until B says that its gradient is nothing; at the end
    L -> B   linear.result     the weights of B's directions, of which B makes its coefficients

**Security model: semi-honest.** What each side learns:

- L: of each B the number of its independent columns, and per round a vector [rows] that B's columns
  span: the fitted values of a regression of L's own residuals on B's columns, made orthogonal to
  those before. So L knows the part of the column space of B that predicts its label, at the most
  the whole of it: B's columns up to an unknown invertible mixture. Where L knows something of the
  columns besides (a 0/1 column, a few persons' values), it may find columns out. `rounds` bounds
  it. The linear predictor that every protocol without an arbiter shows is one of these vectors.
- B: per round the q sums Z'r, that is the products of its own columns with the residuals; its own
  coefficients; the mean curvature, the size of the residuals as a power of two, and the dispersion
  where the family has one. The first residuals are the labels less what L's columns predict. That
  is q numbers of a vector of rows numbers; `rows_per_column` keeps them few, and `least_group`
  keeps B from a column that picks a few persons. With a few hundred rows and 0/1 labels, exact sums
  may still be taken apart by lattice reduction. B is shown no prediction and no label. With
  `standard_errors` it also gets its coefficients' covariance.
- Partners of one L learn nothing of each other. L and a partner together can do no more than each
  for itself.

The optimum does not depend on the precision of the encrypted sums (`precision`): these only choose
the directions, L fits in float64 what is shown. See `isthmus.crypto.products` and `he` on the sums
and on what they do not hide.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from isthmus.errors import JobError
from isthmus.linear.arbiter import fit_as_arbiter
from isthmus.linear.arbiter_sides import fit_with_arbiter_as_feature, fit_with_arbiter_as_label
from isthmus.linear.feature_side import fit_as_feature
from isthmus.linear.given import table, table_or_none, target_of
from isthmus.linear.label_side import fit_as_label
from isthmus.linear.moments import fit_moments_as_feature, fit_moments_as_label
from isthmus.linear.options import LinearOptions
from isthmus.linear.result import LinearResult
from isthmus.session import Session


def fit(
    session: Session,
    data: ArrayLike | None,
    labels: ArrayLike | None = None,
    options: LinearOptions | None = None,
    *,
    weights: ArrayLike | None = None,
    offset: ArrayLike | None = None,
) -> LinearResult:
    """Fit a model; every party calls it at the same time, with the same rows in the same order.

    Args:
        session: the party's session. The label party has a link to each feature party.
        data: the own columns, real numbers [rows, columns]; None at a label party without any, and
            at the arbiter.
        labels: [rows], at the label party alone.
        options: the same at every party; logistic regression by default.
        weights: of the rows, above 0, at the label party alone; only their ratios count.
        offset: added to the linear predictor, [rows], at the label party alone: the logarithm of
            the exposure, with a log link.

    Raises:
        DataError: the own data cannot be used.
        JobError: the parties differ, labels are at the wrong party, or there is no partner.
        TrainError: there is no optimum, or it was not reached.
        BadMessage: a partner did not keep to the protocol.
    """
    options = options or LinearOptions()
    options.check_split()
    if not session.links:
        raise JobError(f"{session.me} has no partner to fit a model with")
    if options.arbiter is not None:
        _check_arbiter(session, options)
    if not session.is_label_party:
        if labels is not None or weights is not None or offset is not None:
            raise JobError(f"{session.me} is not the label party, and came with labels or weights")
        if session.me == options.arbiter:
            if data is not None:
                raise JobError(f"{session.me} is the arbiter, and came with columns")
            return fit_as_arbiter(session, options)
        if data is None:
            raise JobError(f"{session.me} came without columns")
        return _AS_FEATURE[options.protocol](session, table(data), options)
    if labels is None:
        raise JobError(f"{session.me} is the label party, and came without labels")
    target = target_of(labels, weights, offset, options)
    own = table_or_none(data, len(target.labels))
    return _AS_LABEL[options.protocol](session, own, target, options)


_AS_FEATURE = {
    "vectors": fit_as_feature,
    "moments": fit_moments_as_feature,
    "arbiter": fit_with_arbiter_as_feature,
}
_AS_LABEL = {
    "vectors": fit_as_label,
    "moments": fit_moments_as_label,
    "arbiter": fit_with_arbiter_as_label,
}


def _check_arbiter(session: Session, options: LinearOptions) -> None:
    arbiter = options.arbiter
    if arbiter not in session.feature_parties:
        raise JobError(f"{arbiter!r} is to be the arbiter, and is no partner of the label party")
    if session.is_label_party and set(session.links) == {arbiter}:
        raise JobError(f"{session.me} has no partner beside the arbiter")
    if options.stop == "loss" and len(session.parties) > 3:
        raise JobError(
            "the loss can end a training with one feature party alone", mend='Use stop="steps".'
        )
