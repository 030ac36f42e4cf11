"""All parties in one process: a thread per party over in-memory links."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.errors import JobError, LinkError
from isthmus.link import Link
from isthmus.link.memory import memory_links
from isthmus.session.progress import Progress, SilentProgress
from isthmus.session.session import Session

Program = Callable[[Session], Any]


def run_parties(
    programs: Mapping[str, Program],
    *,
    label_party: str,
    seed: int = 0,
    folder: Path | None = None,
    progress: Progress | None = None,
    secrets: Mapping[str, bytes] | None = None,
) -> dict[str, Any]:
    """Run each party's program in a thread of its own and return what each returned.

    The same programs run unchanged as processes over TLS. If one party raises, its links tell the
    others, and the first cause is raised here.

    Args:
        programs: the program of each party, in the agreed order of the parties.
        label_party: the party that holds the label; the hub of the links.
        seed: the job's seed.
        folder: each party gets the sub-folder of its name; None keeps everything in memory.
        progress: shared by all parties; silent by default.
        secrets: of each party; None gives them none.

    Raises:
        JobError: the label party is none of the parties.
    """
    parties = tuple(programs)
    if label_party not in programs:
        raise JobError(
            f"the label party {label_party!r} is not among the parties {', '.join(parties)}",
            mend="Give label_party the name of one of the programs.",
        )
    links = _star(parties, label_party)
    results: dict[str, Any] = {}
    errors: list[BaseException] = []

    def run(party: str) -> None:
        session = Session(
            me=party,
            parties=parties,
            label_party=label_party,
            links=links[party],
            seed=seed,
            folder=None if folder is None else folder / party,
            progress=progress or SilentProgress(),
            secret=(secrets or {}).get(party, b""),
        )
        try:
            results[party] = programs[party](session)
        except BaseException as error:
            errors.append(error)
            for link in session.links.values():
                link.fail(error)
        else:
            for link in session.links.values():
                link.close()

    threads = [threading.Thread(target=run, args=(party,), name=party) for party in parties]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise _first_cause(errors)
    return results


def _star(parties: Sequence[str], hub: str) -> dict[str, dict[str, Link]]:
    links: dict[str, dict[str, Link]] = {party: {} for party in parties}
    for party in parties:
        if party != hub:
            links[hub][party], links[party][hub] = memory_links(hub, party)
    return links


def _first_cause(errors: Sequence[BaseException]) -> BaseException:
    # A partner's error arrives here as a LinkError too: the interesting one is the other.
    return next((error for error in errors if not isinstance(error, LinkError)), errors[0])
