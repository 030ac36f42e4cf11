from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from isthmus.link import Deadlines, Link, Listener, create_identity, open_links, trust

QUICK = Deadlines(connect=10, recv=10, reconnect=5, heartbeat=1, close=3)


def befriend(root: Path, *names: str) -> None:
    """Identities of all `names` under `root`, each trusting all others."""
    made = {name: create_identity(root / name, name) for name in names}
    for name in names:
        for other in names:
            if other != name:
                trust(root / name, made[other].certificate_path)


@dataclass
class Pair:
    """Two parties with folders of their own; alice listens, bob dials."""

    root: Path

    def open(self, *, through=None, window=64 << 20, **deadlines) -> tuple[Link, Link]:
        """Both ends; `through` maps alice's address to the one bob dials (a proxy)."""
        listener = Listener(self.root / "alice", "alice")
        address = through(listener.address) if through else listener.address
        own = {"context": "job", "deadlines": replace(QUICK, **deadlines), "window": window}
        with ThreadPoolExecutor(2) as pool:
            a = pool.submit(
                open_links, self.root / "alice", "alice", {"bob": None}, listen=listener, **own
            )
            b = pool.submit(open_links, self.root / "bob", "bob", {"alice": address}, **own)
            alice, bob = a.result()["bob"], b.result()["alice"]
        close = alice.release
        alice.release = lambda: (close(), listener.close())
        return alice, bob


@pytest.fixture(scope="session")
def pair(tmp_path_factory) -> Pair:
    root = tmp_path_factory.mktemp("identities")
    befriend(root, "alice", "bob")
    return Pair(root)
