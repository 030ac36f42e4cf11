"""Links between real processes: killed ones, and ones that end without a goodbye."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from isthmus.errors import PartnerGone
from isthmus.link import Deadlines, Listener, open_links

BOB = """
import sys, time
from pathlib import Path
from isthmus.link import open_links
link = open_links(Path(sys.argv[1]), "bob", {"alice": sys.argv[2]})["alice"]
link.send("hello")
%s
"""


def meet_process(pair, ending: str):
    """Alice's link here, and bob as a process that ends as told."""
    deadlines = Deadlines(connect=20, recv=20, reconnect=0.5, heartbeat=1, close=1)
    listener = Listener(pair.root / "alice", "alice")
    bob = subprocess.Popen(
        [sys.executable, "-c", BOB % ending, str(pair.root / "bob"), listener.address],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )
    alice = open_links(
        pair.root / "alice", "alice", {"bob": None}, listen=listener, deadlines=deadlines
    )["bob"]
    return alice, bob, listener


def test_a_killed_partner_is_gone(pair):
    alice, bob, listener = meet_process(pair, "time.sleep(60)")
    with bob, listener, alice:
        alice.recv("hello")
        bob.kill()
        began = time.monotonic()
        with pytest.raises(PartnerGone, match="the line to bob broke"):
            alice.recv("more")
        assert time.monotonic() - began < 5


def test_a_program_that_forgets_its_links_ends_and_is_quiet(pair):
    alice, bob, listener = meet_process(pair, "sys.exit('the only line')")
    with bob, listener, alice:
        _, errors = bob.communicate(timeout=10)
        assert errors == "the only line\n"
        assert bob.returncode == 1
        with pytest.raises(PartnerGone):
            [alice.recv("hello") for _ in range(2)]
