from types import SimpleNamespace

import numpy as np
import pytest

from isthmus import metrics
from isthmus.jobs import report as r


def test_versions_are_those_that_run():
    assert r.versions_here().numpy == np.__version__


def test_positives_can_be_kept_back():
    measured = metrics.binary_metrics([0, 1, 1], [0.2, 0.7, 0.4])
    assert r.figures_of(measured).positives == 2
    assert r.figures_of(measured, share_positives=False).positives is None


def test_curves_of_scores_are_small_and_whole():
    rng = np.random.default_rng(0)
    p = rng.random(5000).astype(np.float32)
    curves = r.curves_of(rng.random(5000) < p, p)
    assert len(curves.roc) <= 200
    assert curves.roc[0].true_positive_rate == 0
    assert curves.roc[-1].false_positive_rate == 1
    assert sum(bin.count for bin in curves.calibration) == 5000


def counts(sent, received):
    return SimpleNamespace(
        sent_bytes=sent,
        received_bytes=received,
        sent_messages=1,
        received_messages=2,
        waited_seconds=0.5,
    )


def test_traffic_adds_up_over_partners():
    traffic = r.traffic_of(
        {"alice": {"train.cut": counts(0, 10), "align.x": counts(3, 0)}, "carol": {}}
    )
    assert [topic.topic for topic in traffic.topics] == ["align.x", "train.cut"]
    assert (traffic.sent_bytes, traffic.received_bytes, traffic.bytes) == (3, 10, 13)
    assert traffic.waited_seconds == pytest.approx(1.0)
