"""Threads and endings for the tests of a contract."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from isthmus.link import Link

PATIENCE = 20.0
"""Seconds after which a test takes a wait for a deadlock."""


class Waiter:
    """Runs something that should wait, and keeps the error that ends it."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(action,), daemon=True)
        self._thread.start()
        time.sleep(0.1)
        assert self._thread.is_alive(), "it should wait"

    def error(self) -> BaseException | None:
        """What ended the waiting; fails where nothing did."""
        self._thread.join(PATIENCE / 2)
        assert not self._thread.is_alive(), "it was not woken"
        return self._error

    def _run(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except BaseException as error:
            self._error = error


def end(link: Link, how: str) -> None:
    """Close the link, or fail it."""
    if how == "close":
        link.close()
    else:
        link.fail(RuntimeError())


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition()` holds; fails where it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def together(*actions: Callable[[], Any]) -> list[Any]:
    """Run each action in a thread of its own; their results, or the first error."""
    results: list[Any] = [None] * len(actions)
    errors: list[BaseException] = []

    def run(i: int) -> None:
        try:
            results[i] = actions[i]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(6 * PATIENCE)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads), "a deadlock"
    return results
