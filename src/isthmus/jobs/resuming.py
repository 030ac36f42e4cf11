"""Why a run that was to resume does not: one line on the screen and in the log."""

from __future__ import annotations

from isthmus.jobs.context import Context
from isthmus.jobs.coordination import Plan
from isthmus.jobs.steps import STEPS, Step


def explain_begin(context: Context, plan: Plan) -> None:
    """All begins anew: of some party's wish to resume something must be said."""
    asked = [party for party in context.spec.order if party not in plan.lacking]
    if not asked:
        return
    only = "only " if len(asked) == 1 else ""
    _say(context, f"nothing to resume: {only}{', '.join(asked)} asked for it; all begins anew")


def explain_step(context: Context, step: Step, plan: Plan, *, current: bool) -> None:
    """All asked to resume, all before `step` was skipped, and `step` is not.

    Args:
        context: of this party.
        step: the step.
        plan: what was agreed about it.
        current: whether this party's inputs are those of the finished step, if it is finished.
    """
    why = _why(context, step, plan, current)
    if step is STEPS[0]:
        _say(context, f"nothing to resume: {why}")
    elif why:
        _say(context, f"{step.name} is done anew: {why}")


def _why(context: Context, step: Step, plan: Plan, current: bool) -> str:
    others = ", ".join(party for party in plan.lacking if party != context.me)
    if not current:
        changed = "bins" if step.name == "bin" else "table"
        return f"{context.me}'s {changed} changed since"
    if context.me in plan.lacking:
        return _why_here(context, step)
    if others:
        first = step is STEPS[0]
        return f"{others} cannot go on from an earlier run" if first else f"{others} lacks it"
    return "the parties have finished it in different runs"


def _why_here(context: Context, step: Step) -> str:
    folder = context.step(step.name)
    if folder.is_sealed:
        return f"files in {folder.path} are not as they were left"
    if step is STEPS[0]:
        return f"no run of this job in {context.folder.path} has come past {step.name}"
    return ""


def _say(context: Context, text: str) -> None:
    context.log.info("resume", said=text)
    context.session.progress.say(text)
