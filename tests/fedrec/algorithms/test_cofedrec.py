"""CoFedRec's grouping by hand; its loss is with the score functions."""

import numpy as np
import pytest

from isthmus.fedrec import make_task, protocol, recipe
from isthmus.fedrec.algorithms import cofedrec
from isthmus.fedrec.algorithms.cofedrec import elbow, similar


def test_the_elbow_is_farthest_from_the_line_between_the_ends():
    # Line from (0, 10) to (4, 2): 10 - 2 x. Points below it by 0, 1, 5, 3, 0.
    assert elbow(np.array([10.0, 7.0, 1.0, 1.0, 2.0])) == 2
    assert elbow(np.array([3.0])) == 0


def test_clients_down_to_the_elbow_are_similar():
    """One item; cosines to client 1: 0.8, 1, -1, 0.6, -1; sorted 1, 0.8, 0.6, -1, -1."""
    rows = np.array([[[4, 3]], [[2, 0]], [[-1, 0]], [[3, 4]], [[-5, 0]]], np.float32)
    # Line 1 - x / 2: gaps 0, 0.3, 0.6, -0.5, 0: the elbow is the third, client 3.
    assert similar(rows, core=1).tolist() == [0, 1, 3]


@pytest.mark.parametrize("rows", [1, 100, 1 << 18])
def test_one_group_gets_its_mean_and_all_others_keep_their_own(data, rows, monkeypatch):
    monkeypatch.setattr(cofedrec, "_ROWS", rows)
    task = make_task(data, protocol("honest-sampled"), seed=1)
    method = recipe("cofedrec", None, {"dim": 4, "groups": 5}).build(task)
    assert method.extra(1).size == 0
    trained = {}
    mix = method.mix

    def watched(uploads, number):
        def kept():
            for chunk in uploads:
                for place, client in enumerate(chunk.clients):
                    trained[int(client)] = chunk.row_table(place)
                yield chunk

        return mix(kept(), number)

    method.mix = watched
    report = method.round(1, lambda clients, score: None)
    told = report.down // method.items[0].nbytes
    same = [u for u in trained if np.array_equal(method.items[u], trained[u])]
    group = [u for u in trained if u not in same]
    assert len(group) == told >= 2
    mean = np.mean([trained[u] for u in group], axis=0)
    for u in group:
        np.testing.assert_allclose(method.items[u], mean, atol=1e-5)
    extra = method.extra(2)
    np.testing.assert_allclose(extra[:3], [0.005 * 0.1 / 0.5 / data.items, 10, 128])
    assert len(extra) == 3 + data.items
    assert set(extra[3:]) <= set(range(5))
