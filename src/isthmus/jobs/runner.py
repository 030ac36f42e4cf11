"""The steps of a job at one party, in order, each agreed with the partners, skipped if finished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from isthmus.errors import IsthmusError, code_of
from isthmus.files import write_json
from isthmus.jobs import traffic
from isthmus.jobs.applied import keep_job
from isthmus.jobs.arbiter import dismiss_arbiter, is_called
from isthmus.jobs.artefacts import disk_of
from isthmus.jobs.context import Context
from isthmus.jobs.coordination import agree_on_end, agree_on_step
from isthmus.jobs.resuming import explain_begin, explain_step
from isthmus.jobs.steps import STEPS, Step
from isthmus.jobs.tables import check_table
from isthmus.jobs.times import TIMES

TRAFFIC = "traffic.json"
POOLED = "pooled"
"""The folder of the pooled model's scores, beside the steps of the label party."""


def run_steps(context: Context, *, resume: bool, steps: Sequence[Step] = STEPS) -> float:
    """Run the steps of the job at this party while the partners do the same.

    Args:
        context: the job and the session.
        resume: go on where an earlier run stopped, if every party wants that too; else begin anew.
        steps: those to run; what others have left is not touched.

    Returns:
        Seconds that steps took which an earlier run had finished.

    Raises:
        IsthmusError: this party, or a partner, could not go on. The partners have been told.
    """
    with _telling(context):
        return _run_steps(context, resume, steps)


def run_arbiter(context: Context) -> None:
    """The arbiter's part: fit when the label party says so, until it says that the job has ended.

    Args:
        context: the job and the session of the arbiter.

    Raises:
        IsthmusError: this party or the label party could not go on. The label party knows.
    """
    # It loads what other jobs need not have installed.
    from isthmus.jobs.methods.linear import serve

    with _telling(context):
        context.log.info("start", label_party=context.session.label_party)
        keep_job(context)
        while is_called(context):
            _forget(context, STEPS)
            folder = context.step("train")
            folder.create()
            folder.seal("", _work(context, Step("train", serve)))
        _end(context)


@contextmanager
def _telling(context: Context) -> Iterator[None]:
    """The partners and the log are told of whatever is raised within."""
    try:
        with disk_of(context.folder.path):
            yield
    except BaseException as error:
        for link in context.links.values():
            link.fail(error)
        # Our messages name columns, never values; a foreign exception's text could hold anything.
        said = error.message if isinstance(error, IsthmusError) else type(error).__name__
        with suppress(OSError):
            context.log.error("failed", code=code_of(error), message=said)
        raise


def _run_steps(context: Context, resume: bool, steps: Sequence[Step]) -> float:
    context.log.info("start", label_party=context.session.label_party, resume=resume)
    check_table(context.job, context.me)
    keep_job(context)
    plan = agree_on_step(context.session, "begin", "resume" if resume else None)
    if plan.run:
        explain_begin(context, plan)
        _forget(context, steps)
    fresh, earlier = plan.run, 0.0
    for step in steps:
        if step.is_in(context.spec):
            before = _run_step(context, step, fresh, steps)
            fresh, earlier = before is None, earlier + (before or 0.0)
    agree_on_end(context.session)
    dismiss_arbiter(context)
    _end(context)
    return earlier


def _end(context: Context) -> None:
    told = traffic.counts_now(context.links, coordination=True)
    write_json(context.folder.file(TRAFFIC), traffic.to_json(told))
    context.log.info("end")


def _run_step(context: Context, step: Step, fresh: bool, steps: Sequence[Step]) -> float | None:
    """Run one step, or skip it; gives the seconds it took where an earlier run has finished it."""
    folder = context.step(step.name)
    marker = None if fresh else folder.marker()
    current = marker is None or step.current(context)
    marker = marker if current else None
    plan = agree_on_step(context.session, step.name, marker.token if marker else None)
    if not plan.run:
        context.log.info("step.skip", step=step.name)
        context.session.progress.say(f"{step.name} was finished before")
        return 0.0 if marker is None else marker.seconds
    if not fresh:
        explain_step(context, step, plan, current=current)
    _forget(context, steps[steps.index(step) + 1 :])
    folder.create()
    folder.unseal()
    seconds = _work(context, step)
    folder.seal(plan.token, seconds)
    return None


def _forget(context: Context, steps: Sequence[Step]) -> None:
    """Remove what steps left and what was made of it, so that nothing stale lies beside the new."""
    for name in (*(step.name for step in steps), POOLED):
        context.step(name).clear()
    for name in ("report.html", "report.json", TRAFFIC, TIMES):
        context.folder.remove(name)


def _work(context: Context, step: Step) -> float:
    links = context.links
    context.log.info("step.start", step=step.name)
    began, before = context.clock(), traffic.counts_now(links)
    with context.session.progress.task(step.name):
        step.run(context)
    seconds = context.clock() - began
    crossed = traffic.added(before, traffic.counts_now(links))
    write_json(context.step(step.name).file(TRAFFIC), traffic.to_json(crossed))
    context.log.info("step.end", step=step.name, seconds=round(seconds, 3))
    return seconds
