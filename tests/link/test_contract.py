from __future__ import annotations

import pytest

from isthmus.link import memory_links
from isthmus.testing import LinkContract


class TestMemory(LinkContract):
    def make_links(self, *, timeout, window):
        return memory_links("alice", "bob", timeout=timeout, window=window)


class TestGrpc(LinkContract):
    @pytest.fixture(autouse=True)
    def _parties(self, pair):
        self.pair = pair

    def make_links(self, *, timeout, window):
        return self.pair.open(recv=timeout, window=window, close=60)
