"""How the parties agree, step by step, on what to run: messages to and from the label party.

Topics: `job.step` (feature party to label party: the token of its finished step, if any),
`job.plan` (back: run or skip, and the token of this execution), `job.end` (both ways: all done).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.errors import BadMessage
from isthmus.link import Header, Link
from isthmus.session import PATIENCE, Session


@dataclass(frozen=True)
class Plan:
    """What to do about one step."""

    run: bool
    token: str
    """Of this execution, or of the finished one."""
    lacking: tuple[str, ...] = ()
    """The parties that have not finished the step."""


def agree_on_step(session: Session, step: str, finished: str | None) -> Plan:
    """Whether to run `step`: it is skipped only where every party has it from the same execution.

    Args:
        session: this party's session.
        step: the step's name.
        finished: the token of the finished step here; None where it is to be run.

    Raises:
        LinkError: a partner failed, left, is at another step, or skips what is not finished here.
    """
    if not session.is_label_party:
        session.hub.send("job.step", header={"step": step, "token": finished})
        header = _receive(session.hub, "job.plan", step)
        plan = Plan(bool(header["run"]), str(header.get("token")), _lacking(session, header))
        if not plan.run and (finished is None or plan.token != finished):
            raise BadMessage(
                f"{session.label_party} skips the step {step!r}, which is not finished here"
            )
        return plan
    links = [session.link(party) for party in session.feature_parties]
    tokens = {link.partner: _receive(link, "job.step", step).get("token") for link in links}
    plan = _decide({session.me: finished, **tokens})
    told = {"run": plan.run, "token": plan.token, "lacking": list(plan.lacking)}
    for link in links:
        link.send("job.plan", header={"step": step, **told})
    return plan


def agree_on_end(session: Session) -> None:
    """Return when every party has finished every step. Raises LinkError."""
    if not session.is_label_party:
        session.hub.send("job.end", header={"step": "end"})
        _receive(session.hub, "job.end", "end")
        return
    links = [session.link(party) for party in session.feature_parties]
    for link in links:
        _receive(link, "job.end", "end")
    for link in links:
        link.send("job.end", header={"step": "end"})


def _decide(tokens: Mapping[str, object]) -> Plan:
    lacking = tuple(party for party, token in tokens.items() if token is None)
    known = set(tokens.values())
    if len(known) == 1 and not lacking:
        return Plan(run=False, token=str(known.pop()))
    return Plan(run=True, token=secrets.token_hex(8), lacking=lacking)


def _lacking(session: Session, header: Header) -> tuple[str, ...]:
    named = header.get("lacking", [])
    if not isinstance(named, list) or any(name not in session.parties for name in named):
        raise BadMessage(f"{session.label_party} does not say who has not finished a step")
    return tuple(named)


def _receive(link: Link, topic: str, step: str) -> Header:
    header = link.recv(topic, timeout=PATIENCE).header
    if header.get("step") != step:
        raise BadMessage(f"{link.partner} is not at the step {step!r}")
    if topic == "job.plan" and not isinstance(header.get("run"), bool):
        raise BadMessage(f"{link.partner} does not say whether to run the step {step!r}")
    if not isinstance(header.get("token", ""), str | None):
        raise BadMessage(f"{link.partner} sent no token of the step {step!r}")
    return header
