"""The arbiter of a job: a party without a table, there for the training alone.

It has a link to the label party and to nobody else, and no part in any step: sessions of steps do
not know it. Topic `job.arbiter`, from the label party: whether a model is to be fitted now; if not,
the job has come to its end.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from isthmus.errors import LinkError
from isthmus.jobs.context import Context
from isthmus.jobs.job import Job
from isthmus.jobs.spec import JobSpec
from isthmus.linear import wire
from isthmus.link import Link
from isthmus.session import PATIENCE, Session

TOPIC = "job.arbiter"


def apart(session: Session, spec: JobSpec) -> tuple[Session, Link | None]:
    """The session of a job's steps, which leaves the arbiter out, and the link to the arbiter.

    At the arbiter itself, and in a job without one, the session as it is and None.
    """
    name = spec.arbiter
    if name is None or session.me == name:
        return session, None
    links = {partner: link for partner, link in session.links.items() if partner != name}
    return replace(session, parties=spec.order, links=links), session.links.get(name)


def without_arbiter(job: Job) -> Job:
    """The job as what has no training sees it; its hash is that of the whole."""
    if job.spec.linear is None:
        return job
    linear = job.spec.linear.model_copy(update={"arbiter": None})
    return replace(job, spec=job.spec.model_copy(update={"linear": linear}))


def call_arbiter(context: Context) -> Session:
    """The session of a fit, with the arbiter in it; at the label party, tell the arbiter.

    Raises:
        LinkError: the arbiter is gone.
    """
    if context.spec.arbiter is None:
        return context.session
    if context.arbiter is not None:
        context.arbiter.send(TOPIC, header={"fit": True})
    return replace(context.session, parties=context.spec.everyone, links=context.links)


def dismiss_arbiter(context: Context) -> None:
    """At the label party: tell the arbiter that the job has come to its end."""
    if context.arbiter is not None:
        # Its part is done: whether it is still there has nothing to do with the job.
        with suppress(LinkError):
            context.arbiter.send(TOPIC, header={"fit": False})


def is_called(context: Context) -> bool:
    """At the arbiter: wait until a model is to be fitted; False at the end of the job.

    Raises:
        LinkError: the label party failed or left.
    """
    hub = context.session.hub
    message = hub.recv(TOPIC, timeout=PATIENCE)
    return bool(wire.choice(hub, message, "fit", (True, False)))
