"""The label party's and the feature parties' side of the protocol of the module `arbiter`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.crypto import he
from isthmus.crypto.products import Shape
from isthmus.errors import DataError, JobError
from isthmus.linear import wire
from isthmus.linear.arbiter import MOST, Plan, Sums, take_sums
from isthmus.linear.arbiter_loss import LossCurve, check_label
from isthmus.linear.feature_side import greet as greet_as_feature
from isthmus.linear.label_side import Partner
from isthmus.linear.label_side import greet as greet_as_label
from isthmus.linear.local import Target
from isthmus.linear.options import LinearOptions
from isthmus.linear.result import LinearResult
from isthmus.linear.span import Span
from isthmus.linear.taylor import Coordinates, Quadratic, Rows, Stepper
from isthmus.link import Link
from isthmus.session import PATIENCE, Session

Floats = NDArray[np.float64]


def fit_with_arbiter_as_feature(
    session: Session, data: Floats, options: LinearOptions
) -> LinearResult:
    """See `arbiter`."""
    link, plan = session.hub, Plan.of(session, len(data), options)
    plan.check(data, options)
    span = Span(data, options)
    count = Coordinates.count(span, options)
    public, start = greet_as_feature(session, count, len(data), options)
    scale, loss = wire.positive(link, start, "scale"), Quadratic.of(options.family)
    coordinates = Coordinates.of(span, options, loss.curvature, scale)
    stepper = Stepper(coordinates, options, loss.curvature, plan.parties, plan.parts)
    sums = Sums(public, plan, coordinates.basis)
    steps, converged = 0, False
    with session.progress.task("fit", options.epochs) as task:
        for epoch in range(options.epochs):
            squares = 0.0
            for part in plan.parts:
                squares += _feature_step(link, public, stepper, sums, part, epoch)
                steps += 1
            told: dict[str, float] = {}
            if options.stop == "loss":
                told["loss"] = loss.curvature / 2.0 * squares / len(data) + stepper.penalty()
            link.send("linear.settled", header={"settled": stepper.settled(), **told})
            message = link.recv("linear.epoch", timeout=PATIENCE)
            converged = wire.choice(link, message, "converged", (True, False))
            task.advance()
            if wire.choice(link, message, "done", (True, False)):
                break
    coefficients = stepper.coefficients() * scale
    if options.intercept:
        shift = float(data.mean(axis=0) @ coefficients)
        link.send("linear.shift", header={"shift": shift})
    return LinearResult(
        options=options, coefficients=coefficients, rounds=steps, converged=converged, shown=0
    )


def _feature_step(
    link: Link, public: he.HePublic, stepper: Stepper, sums: Sums, part: Rows, epoch: int
) -> float:
    """One step; gives the sum of the squares of this party's part of the predictor before it."""
    values = stepper.predictor(part)
    link.send("linear.predictor", he.pack(sums.predictor(values)))
    message = link.recv("linear.residuals", timeout=PATIENCE)
    asked = he.unpack(public, dict(message.tensors), Shape(len(part), 1).asked)
    link.send("linear.products", sums.masked(part, asked))
    reply = link.recv("linear.sums", timeout=PATIENCE)
    stepper.step(sums.opened(link, reply), len(part), epoch)
    return float(values @ values)


def fit_with_arbiter_as_label(
    session: Session, data: Floats, target: Target, options: LinearOptions
) -> LinearResult:
    """See `arbiter`."""
    if np.ptp(target.weights):
        raise JobError("an arbiter takes no weights", mend='Use protocol="vectors".')
    side = _Label(session, data, target, options)
    steps, converged = 0, False
    with session.progress.task("fit", options.epochs) as task:
        for epoch in range(options.epochs):
            for part in side.plan.parts:
                side.step(part, epoch)
                steps += 1
            converged = side.settled()
            done = converged or epoch == options.epochs - 1
            for one in side.partners:
                one.link.send("linear.epoch", header={"done": done, "converged": converged})
            task.advance()
            if done:
                break
    end = {"done": True, "steps": steps, "converged": converged}
    side.arbiter.send("linear.products", header=end)
    coefficients, intercept = side.found()
    return LinearResult(
        options=options,
        coefficients=coefficients,
        intercept=intercept,
        rounds=steps,
        converged=converged,
        shown=0,
        losses=side.losses,
    )


class _Label:
    def __init__(
        self, session: Session, data: Floats, target: Target, options: LinearOptions
    ) -> None:
        assert options.arbiter is not None
        self._data, self._options = data, options
        self.plan = Plan.of(session, len(data), options)
        self.arbiter = session.links[options.arbiter]
        loss = Quadratic.of(options.family)
        pulls = (target.labels - loss.centre) / loss.curvature - target.offset
        linear = options.family == "linear"
        self._mean = float(pulls.mean()) if linear and options.intercept else 0.0
        self._scale = float((pulls - self._mean).std()) if linear else 1.0
        if not self._scale > 0:
            raise DataError("all labels are the same")
        self._pulls = (pulls - self._mean) / self._scale
        if np.abs(self._pulls).max() > MOST / 2:
            raise DataError(
                f"a label is more than {MOST / 2:g} deviations from the mean, or an offset as far",
                mend="Clip the labels, or take their logarithm.",
            )
        agreed = {"agreed": options.agreed(), "rows": len(data)}
        self.arbiter.send("linear.arbiter", header=agreed)
        key = self.arbiter.recv("linear.key", timeout=PATIENCE).tensors.get("key")
        key = np.empty(0, np.uint8) if key is None else key
        self._public = he.HePublic(key)
        links = [link for name, link in session.links.items() if name != options.arbiter]
        self.partners = greet_as_label(links, len(data), options, key, at_once=self.plan.least)
        coordinates = self._coordinates(loss.curvature)
        parties, parts = self.plan.parties, self.plan.parts
        self._stepper = Stepper(coordinates, options, loss.curvature, parties, parts)
        self._sums = Sums(self._public, self.plan, coordinates.basis)
        self._curve = None
        if options.stop == "loss":
            for part in parts:
                check_label(self._data[part], self._pulls[part], options)
            self._curve = LossCurve(options, loss.curvature, len(data))
        for one in self.partners:
            one.link.send("linear.start", header={"scale": self._scale})

    def step(self, part: Rows, epoch: int) -> None:
        """One step of all parties."""
        # Encrypted, not added in the open: a partner that knows its own ciphertexts could take
        # them off the sum.
        own = self._stepper.predictor(part) - self._pulls[part]
        total = self._sums.predictor(own)
        for one in self.partners:
            message = one.link.recv("linear.predictor", timeout=PATIENCE)
            theirs = he.unpack(self._public, dict(message.tensors), len(total))
            total = [mine + other for mine, other in zip(total, theirs, strict=True)]
        tensors = he.pack(total)
        for one in self.partners:
            one.link.send("linear.residuals", tensors)
        self._own_step(part, own, total, epoch)
        for one in self.partners:
            self._relay(one, len(part))

    @property
    def losses(self) -> tuple[float, ...]:
        """Before each epoch, where the loss ends the training."""
        return () if self._curve is None else tuple(self._curve.losses)

    def _own_step(self, part: Rows, own: Floats, total: list[he.Cipher], epoch: int) -> None:
        also = None if self._curve is None else own
        count = self._sums.count + (also is not None)
        if not count:
            return
        header = {"done": False, "rows": len(part), "columns": count}
        self.arbiter.send("linear.products", self._sums.masked(part, total, also), header)
        reply = self.arbiter.recv("linear.sums", timeout=PATIENCE)
        opened = self._sums.opened(self.arbiter, reply)
        if self._curve is not None:
            self._curve.add(own, float(opened[-1]))
        self._stepper.step(opened[: self._sums.count], len(part), epoch)

    def _relay(self, partner: Partner, rows: int) -> None:
        """A partner's masked products to the arbiter, and the masked sums back."""
        columns = partner.shape.columns
        tensors = dict(partner.link.recv("linear.products", timeout=PATIENCE).tensors)
        # Read here, so that who sent what is none is named.
        he.unpack(self._public, tensors, Shape(rows, columns).answered)
        header = {"done": False, "rows": rows, "columns": columns}
        self.arbiter.send("linear.products", tensors, header)
        reply = self.arbiter.recv("linear.sums", timeout=PATIENCE)
        partner.link.send("linear.sums", {"sums": take_sums(self.arbiter, reply, columns)})

    def settled(self) -> bool:
        """Whether all parties' steps have come to rest, or the loss has."""
        rest = self._stepper.penalty()
        mine = self._stepper.settled()
        for one in self.partners:
            message = one.link.recv("linear.settled", timeout=PATIENCE)
            one.settled = wire.choice(one.link, message, "settled", (True, False))
            if self._curve is not None:
                rest += wire.real(one.link, message, "loss")
        if self._curve is not None:
            return self._curve.close(rest)
        return mine and all(one.settled for one in self.partners)

    def found(self) -> tuple[Floats, float | None]:
        """The own columns' coefficients, float64 [columns], and the intercept."""
        coefficients = self._stepper.coefficients() * self._scale
        if not self._options.intercept:
            return coefficients, None
        constant = float(self._stepper.coordinates.basis[0, 0] * self._stepper.weights[0])
        own = float(self._data.mean(axis=0) @ coefficients)
        intercept = self._mean + self._scale * constant - own
        for one in self.partners:
            message = one.link.recv("linear.shift", timeout=PATIENCE)
            intercept -= wire.real(one.link, message, "shift")
        return coefficients, intercept

    def _coordinates(self, curvature: float) -> Coordinates:
        options, rows = self._options, len(self._data)
        self.plan.check(self._data, options, label=options.stop == "loss")
        if self._data.shape[1]:
            span = Span(self._data, options, least_columns=0)
            own = Coordinates.of(span, options, curvature, self._scale)
        else:
            empty = np.empty(0)
            own = Coordinates(np.empty((rows, 0)), empty, empty, np.empty((0, 0)))
        return own.with_constant(curvature) if options.intercept else own
