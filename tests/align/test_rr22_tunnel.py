"""The tunnel for a program's two connections: what it carries, and hostile partners."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from isthmus.align import rr22_tunnel
from isthmus.align.rr22_tunnel import CHUNK, Tunnel
from isthmus.errors import AlignError, BadMessage, PartnerFailed, PartnerSlow, StorageError
from isthmus.link import memory_links

TOPICS = ("align.tunnel.receiver", "align.tunnel.sender")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(rr22_tunnel, "POLL", 0.1)
    monkeypatch.setattr(rr22_tunnel, "GRACE", 0.2)


@pytest.fixture
def folders(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    return tmp_path / "a", tmp_path / "b"


def bytes_of(end, count):
    found = bytearray()
    while len(found) < count:
        part = end.recv(count - len(found))
        assert part
        found += part
    return bytes(found)


class Program:
    """Stands for `spu`: a server at `own`, a client of `partner`, and so many bytes each way."""

    def __init__(self, folder, seed, theirs):
        self.folder, self.seed, self.theirs = folder, seed, theirs
        self.server = socket.socket(socket.AF_UNIX)
        self.server.settimeout(20)
        self.server.bind(str(folder / "own"))
        self.server.listen(1)

    @staticmethod
    def content(seed, size=3 * CHUNK + 17):
        return np.random.default_rng(seed).bytes(size)

    def __call__(self):
        ask, reply = self.content(self.seed), self.content(100 + self.seed, 1000)
        awaited = self.content(self.theirs), self.content(100 + self.theirs, 1000)
        with socket.socket(socket.AF_UNIX) as client, self.server:
            client.connect(str(self.folder / "partner"))
            with ThreadPoolExecutor(1) as pool:
                sending = pool.submit(client.sendall, ask)
                served = self.server.accept()[0]
                with served:
                    assert bytes_of(served, len(awaited[0])) == awaited[0]
                    served.sendall(reply)
                    assert bytes_of(client, len(awaited[1])) == awaited[1]
                    sending.result()
        return self.seed


def test_both_connections_are_carried_both_ways(folders):
    links = memory_links("alice", "bob", timeout=20)
    before = threading.active_count()

    def side(number):
        program = Program(folders[number], number, 1 - number)
        with Tunnel(links[number], folders[number], receiver=number == 0, ids=10) as tunnel:
            return tunnel.carry(program)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(side, (0, 1))) == [0, 1]
    assert threading.active_count() == before
    sent = {topic: links[0].meter.snapshot()[topic].sent_bytes for topic in TOPICS}
    assert sent[TOPICS[0]] > 3 * CHUNK > 2000 > sent[TOPICS[1]] > 1000


def carried(folder, say, program=None):
    """What carrying raises where the partner does `say` with its end of the link."""
    here, there = memory_links("alice", "bob", timeout=20)
    over = threading.Event()
    try:
        with Tunnel(here, folder, receiver=True, ids=10) as tunnel:
            say(there)
            tunnel.carry(program or (lambda: int(over.wait(20))))
    finally:
        over.set()


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"bits": np.zeros(3, dtype=np.uint8)}, "other tensors"),
        ({}, "other tensors"),
        ({"bytes": np.zeros(3, dtype=np.int32)}, "as int32"),
        ({"bytes": np.zeros((3, 1), dtype=np.uint8)}, "agreed was"),
        ({"bytes": np.zeros(CHUNK + 1, dtype=np.uint8)}, "agreed was"),
        ({"bytes": np.zeros(0, dtype=np.uint8)}, "ended a connection early"),
    ],
)
@pytest.mark.parametrize("topic", TOPICS)
def test_a_message_that_is_none_is_refused(folders, topic, tensors, said):
    with pytest.raises(BadMessage, match=said):
        carried(folders[0], lambda link: link.send(topic, tensors))


def test_more_than_so_many_ids_can_need_is_refused(folders, monkeypatch):
    monkeypatch.setattr(rr22_tunnel, "MOST_BYTES", 0)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folders[0] / "own"))
        server.listen(1)
        with pytest.raises(BadMessage, match="so many ids"):
            carried(
                folders[0],
                lambda link: [
                    link.send(topic, {"bytes": np.zeros(1001, dtype=np.uint8)}) for topic in TOPICS
                ],
            )


def test_bytes_that_make_the_program_hang_up_are_an_error_here(folders):
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folders[0] / "own"))
    server.listen(1)
    over = threading.Event()

    def program():
        with server, server.accept()[0] as served:
            assert served.recv(100) == b"garbage"
        over.wait(20)
        return 1

    garbage = {"bytes": np.frombuffer(b"garbage", dtype=np.uint8)}
    try:
        with pytest.raises(BadMessage, match="ended a connection early"):
            carried(folders[0], lambda link: link.send(TOPICS[1], garbage), program)
    finally:
        over.set()


def test_a_partner_that_fails_ends_it(folders):
    with pytest.raises(PartnerFailed, match="cannot be aligned"):
        carried(folders[0], lambda link: link.fail(AlignError("secret")))


def test_an_error_of_the_program_is_raised_and_no_end_is_told(folders):
    here, there = memory_links("alice", "bob", timeout=0.1)

    def program():
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(folders[0] / "partner"))
        raise AlignError("it broke")

    tunnel = Tunnel(here, folders[0], receiver=True, ids=10)
    with tunnel, pytest.raises(AlignError, match="it broke"):
        tunnel.carry(program)
    assert here.meter.total().sent_bytes == 0
    there.close()


def test_a_partner_that_does_not_end_is_not_waited_for_when_the_program_is_done(
    folders, monkeypatch
):
    monkeypatch.setattr(rr22_tunnel, "LAST", 0.3)

    def program():
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(folders[0] / "partner"))
        return 1

    with pytest.raises(PartnerSlow, match="does not say so"):
        carried(folders[0], lambda link: None, program)


def test_a_folder_with_a_long_path_is_refused(tmp_path):
    here, _ = memory_links("alice", "bob")
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    with pytest.raises(StorageError, match="TMPDIR"):
        Tunnel(here, folder, receiver=True, ids=1)
