"""A partner that does not keep to the protocol gets one clear BadMessage, and nothing else."""

import threading

import numpy as np
import pytest
from tests.align import two_parties

from isthmus.align import align, entities
from isthmus.crypto import hash_to_points, multiply, new_secret
from isthmus.errors import AlignError, BadMessage
from isthmus.link import memory_links
from isthmus.session import Session

IDS = ["a", "b", "c", "d"]
SECRET = new_secret()
POINTS = multiply(SECRET, hash_to_points([i.encode() for i in IDS]))


def hello(**changes):
    return {"protocol": "ecdh", "keys": "row", "columns": 1, "ids": len(IDS), **changes}


def against(partner, *, honest="hub", **options):
    two_parties.against(
        lambda session: align(session, IDS, workers=0, **options), partner, honest=honest
    )


@pytest.mark.parametrize(
    "points",
    [
        {"points": POINTS[:3]},
        {"points": np.concatenate([POINTS, POINTS])},  # more than announced
        {"points": POINTS.astype(np.int32)},
        {"points": POINTS[:, :31]},
        {"points": POINTS.reshape(-1)},
        {"points": POINTS, "more": POINTS},
        {"dots": POINTS},
        {},
    ],
)
@pytest.mark.parametrize("honest", ["hub", "spoke"])
def test_points_of_a_wrong_shape_number_kind_or_name(points, honest):
    def partner(link):
        link.send("align.hello", header=hello())
        link.send("align.points", points)

    with pytest.raises(BadMessage, match=r"hostile sent align\.points"):
        against(partner, honest=honest)


@pytest.mark.parametrize("honest", ["hub", "spoke"])
def test_points_of_low_order(honest):
    def partner(link):
        link.send("align.hello", header=hello())
        link.send("align.points", {"points": np.zeros((4, 32), np.uint8)})
        if honest == "hub":
            link.send("align.echo", {"points": POINTS[:, :16]})

    with pytest.raises(BadMessage, match="hostile sent a point of low order"):
        against(partner, honest=honest)


@pytest.mark.parametrize("which", ["points", "echo"])
def test_the_same_point_twice(which):
    twice = POINTS[[0, 1, 2, 2]]

    def partner(link):
        link.send("align.hello", header=hello())
        link.send("align.points", {"points": twice if which == "points" else POINTS})
        link.send("align.echo", {"points": (twice if which == "echo" else POINTS)[:, :16]})

    with pytest.raises(BadMessage, match="the same point twice"):
        against(partner)


@pytest.mark.parametrize("echo", [POINTS, POINTS[:3, :16], POINTS[:, :16].astype(np.float32)])
def test_echoes_of_a_wrong_shape_or_kind(echo):
    def partner(link):
        link.send("align.hello", header=hello())
        link.send("align.points", {"points": POINTS})
        link.send("align.echo", {"points": echo})

    with pytest.raises(BadMessage, match=r"hostile sent align\.echo as"):
        against(partner)


@pytest.mark.parametrize("ids", [0, -1, 2**31, 1.5, True, "4", None, [4]])
def test_an_announcement_that_is_no_proper_number(ids):
    with pytest.raises(BadMessage, match="without a proper 'ids'"):
        against(lambda link: link.send("align.hello", header=hello(ids=ids)))


def test_an_announcement_of_something_else():
    with pytest.raises(AlignError, match="protocol = 'kkrt'"):
        against(lambda link: link.send("align.hello", header=hello(protocol="kkrt")))
    with pytest.raises(AlignError, match="protocol = 'None'"):
        against(lambda link: link.send("align.hello", header={"ids": 3}))


def spoke_until_common(link, bits):
    link.send("align.hello", header=hello())
    link.send("align.points", {"points": POINTS})
    link.recv("align.echo")
    link.send("align.common", {"bits": np.array(bits, dtype=np.uint8)})


@pytest.mark.parametrize(
    ("bits", "match"),
    [([0b11111000], "out of range"), ([0xF0, 0], r"sent align\.common as"), ([], "sent align")],
)
def test_common_positions_out_of_range(bits, match):
    with pytest.raises(BadMessage, match=match):
        against(lambda link: spoke_until_common(link, bits), honest="spoke")


def test_a_label_party_that_lies_about_what_is_common_is_found_out():
    def partner(link):
        spoke_until_common(link, [0b11000000])
        link.send("align.digest", {"digest": np.zeros(32, np.uint8)})

    with pytest.raises(AlignError, match="found other common ids"):
        against(partner, honest="spoke")


@pytest.mark.parametrize(
    ("entity", "header", "match"),
    [
        (np.array([0, 1, 2, 4], np.int32), {"samples": 4}, "out of range"),
        (np.array([0, 1, -1, 3], np.int32), {"samples": 4}, "out of range"),
        (np.array([0, 1, 1, 3], np.int32), {"samples": 4}, "without some of the common"),
        (np.array([0, 1, 2, 3], np.int64), {"samples": 4}, "sent align.samples as int64"),
        (np.array([0, 1, 2], np.int32), {"samples": 4}, r"sent align.samples as int32 \[3\]"),
        (np.array([0, 1, 2, 3], np.int32), {"samples": 0}, "without a proper 'samples'"),
        (np.array([0, 1, 2, 3], np.int32), {}, "without a proper 'samples'"),
    ],
)
def test_samples_that_make_no_sense(entity, header, match):
    def partner(link):
        link.send("align.hello", header=hello(keys="entity"))
        link.send("align.points", {"points": POINTS})
        link.recv("align.echo")
        link.send("align.common", {"bits": np.array([0xF0], np.uint8)})
        link.send("align.digest", {"digest": link.recv("align.digest").tensors["digest"]})
        link.send("align.samples", {"entity": entity}, header)

    with pytest.raises(BadMessage, match=match):
        against(partner, honest="spoke", keys="entity")


@pytest.mark.parametrize(
    ("announced", "match"),
    [
        ([2**31 + 1], "without a proper 'samples'"),
        ([2**31, 2**31 - 1], "of another number than before"),
    ],
)
def test_a_number_of_samples_that_is_too_large_or_changes(announced, match):
    left, right = memory_links("label", "feature")
    session = Session(
        me="feature", parties=("label", "feature"), label_party="label", links={"label": right}
    )
    chunk = np.zeros(entities._CHUNK, np.int32)
    for samples in announced:
        left.send("align.samples", {"entity": chunk}, {"samples": samples})
    left.send("align.samples", {"entity": chunk[:1]}, {"samples": 1})
    with pytest.raises(BadMessage, match=match):
        entities.receive_samples(session, np.zeros(1, np.int64))


def test_a_partner_that_reads_its_table_for_long_is_waited_for():
    left, right = memory_links("label", "feature", timeout=0.1)
    session = Session(
        me="feature", parties=("label", "feature"), label_party="label", links={"label": right}
    )
    late = threading.Timer(
        0.5, left.send, ("align.hello", None, hello(protocol="no such protocol"))
    )
    late.start()
    with pytest.raises(AlignError, match="'no such protocol'"):
        align(session, IDS)
    late.join()
