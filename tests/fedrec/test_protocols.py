"""What is held out, drawn and ranked; and the metrics, by hand."""

import math
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fedrec.conftest import made_up
from tests.fedrec.reference import draw_samples

from isthmus.errors import DataError, JobError, NotFinite, SchemaError
from isthmus.fedrec import (
    PROTOCOLS,
    Interactions,
    from_frame,
    interactions,
    make_task,
    protocol,
)
from isthmus.fedrec.evaluate import metrics, ranks
from isthmus.fedrec.population import NONE, leave_out
from isthmus.fedrec.protocols import exams


@given(st.integers(0, 2**31), st.sampled_from(sorted(PROTOCOLS)), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_what_is_drawn_keeps_the_rules(seed, name, least):
    data = made_up(clients=5, items=130, seed=seed, least=least, most=least + 20)
    rules = protocol(name)
    task = make_task(data, rules, seed)
    population = task.population
    found = exams(rules, population, seed)
    for u in range(data.users):
        train = set(population.train.of(u).tolist())
        held = {int(population.valid[u]), int(population.test[u])} - {NONE}
        all_ = set(data.item[data.user == u].tolist())
        assert train | held == all_
        assert not train & held
        drawn = draw_samples(
            sorted(train), set(task.avoid.of(u).tolist()), data.items, 4, seed, 1, u
        )
        negatives = {item for item, label in drawn if not label}
        assert not negatives & train
        assert not (negatives & held and rules.leaks)
        for part, exam in found.items():
            if exam.sampled is not None:
                own = exam.sampled.of(u).tolist()
                assert len(set(own[1:])) == 99
                assert not set(own[1:]) & all_
                assert own[0] == (population.valid if part == "valid" else population.test)[u]
    valid, test = found["valid"].sampled, found["test"].sampled
    if valid is not None and test is not None:
        first = [one.items[one.indptr[0] + 1 : one.indptr[1]].tolist() for one in (valid, test)]
        assert (first[0] == first[1]) == rules.same_candidates


def test_held_out_items_are_negatives_under_honest_rules():
    data = made_up(clients=1, items=12, least=8, most=9)
    task = make_task(data, protocol("honest-sampled"), 0)
    train = task.population.train.of(0).tolist()
    drawn = draw_samples(train, set(task.avoid.of(0).tolist()), 12, 4, 0, 1, 0)
    assert int(task.population.test[0]) in {item for item, label in drawn if not label}


def by_rows(rows, order="time"):
    user, item = (np.array(one) for one in zip(*rows, strict=True))
    return Interactions("by hand", int(user.max()) + 1, int(item.max()) + 1, user, item, order)


def test_the_last_is_tested_and_the_one_before_validates():
    population = leave_out(by_rows([(0, 3), (0, 1), (0, 2), (1, 0), (1, 4), (2, 1)]), "last", 0)
    assert population.test.tolist() == [2, 4, NONE]
    assert population.valid.tolist() == [1, NONE, NONE]
    assert [population.train.of(u).tolist() for u in range(3)] == [[3], [0], [1]]


def test_random_leave_one_out_follows_the_seed():
    data = made_up(clients=30, order="none")
    one, same, other = (leave_out(data, "random", seed) for seed in (1, 1, 2))
    assert one.test.tolist() == same.test.tolist()
    assert one.test.tolist() != other.test.tolist()
    last = leave_out(data, "last", 1)
    assert make_task(data, protocol("authors"), 1).population.test.tolist() == last.test.tolist()
    honest = make_task(data, protocol("honest-sampled"), 1).population
    assert honest.test.tolist() == one.test.tolist()


def exam_ranks(name, scores, held, train=()):
    """Ranks of one client's test item when all items are scored as given."""
    rules = protocol(name)
    rows = [(0, item) for item in [*train, *held]]
    data = Interactions(
        "x", 1, len(scores), np.zeros(len(rows), int), np.array([i for _, i in rows]), "time"
    )
    task = make_task(data, rules, 0)
    table = np.array(scores, np.float32)

    def score(clients, candidates):
        parts = [
            table[candidates.items[b : b + c]]
            for b, c in zip(candidates.begin, candidates.count, strict=True)
        ]
        return np.concatenate(parts)

    exam = exams(rules, task.population, 0)["test"]
    return int(ranks(task, rules, exam, np.array([0]), score)[0])


def test_full_ranking_leaves_out_what_the_client_is_known_to_have():
    # Items 0 and 1 in training, 2 for validation, 3 tested, 4 and 5 ahead of it.
    assert exam_ranks("full-ranking", [9, 9, 9, 1, 2, 3], held=[2, 3], train=[0, 1]) == 3


def test_ties_count_against_under_authors_and_by_draw_else():
    assert exam_ranks("authors", [0] * 50, held=[2, 3], train=[0, 1]) == 47
    assert 1 < exam_ranks("full-ranking", [0] * 50, held=[2, 3], train=[0, 1]) < 47


def test_scores_that_are_no_numbers_are_told():
    with pytest.raises(NotFinite):
        exam_ranks("authors", [math.nan] * 8, held=[2, 3], train=[0, 1])


def test_metrics_by_hand():
    # Ranks 1, 4 and 15; the last client has no test item.
    found = metrics(np.array([1, 4, 15, 0]))
    assert found["hr@5"] == found["recall@5"] == pytest.approx(2 / 3)
    assert found["hr@20"] == 1
    assert found["ndcg@10"] == pytest.approx((1 + 1 / math.log2(5)) / 3)
    assert found["mrr@20"] == pytest.approx((1 + 1 / 4 + 1 / 15) / 3)
    assert found["mrr@10"] == pytest.approx((1 + 1 / 4) / 3)


def test_a_table_is_cut_numbered_and_ordered():
    frame = pl.DataFrame(
        {
            "user_id": ["b", "b", "a", "b", "b", "a", "c"],
            "item_id": ["x", "y", "x", "x", "z", "q", "x"],
            "timestamp": [5, 3, 1, 9, 3, 0, 1],
        }
    )
    data = from_frame(frame, "t", least=2)
    assert (data.users, data.items, data.order) == (2, 4, "time")
    # b: y and z at the same time, the later row first; x at its first appearance. a: q, then x.
    assert data.user.tolist() == [0, 0, 0, 1, 1]
    assert data.item.tolist() == [2, 1, 0, 3, 0]


def test_without_times_items_stand_by_first_appearance():
    frame = pl.DataFrame(
        {"user": [1, 1, 1, 2, 2], "item": [7, 8, 9, 9, 7], "rating": [1, 0, 2, 3, 1]}
    )
    data = from_frame(frame, "t", least=2)
    assert data.order == "none"
    assert data.item.tolist() == [0, 1, 0, 1]


def test_bad_tables_are_refused():
    frame = pl.DataFrame({"user": [1], "thing": [2]})
    with pytest.raises(SchemaError, match="item"):
        from_frame(frame, "t", least=1)
    with pytest.raises(SchemaError, match="nothing"):
        from_frame(frame, "t", least=1, columns={"item": "nothing"})
    with pytest.raises(DataError, match="no client"):
        from_frame(frame, "t", least=2, columns={"item": "thing"})


@pytest.mark.parametrize(
    ("times", "order"),
    [
        ([3, 1, 2], "time"),
        ([date(2026, 1, 3), date(2026, 1, 1), date(2026, 1, 2)], "time"),
        (["3", "1", "2"], "time"),
        ([3.0, float("nan"), 2.0], "none"),
    ],
)
def test_times_may_be_numbers_or_dates(times, order):
    frame = pl.DataFrame({"user": [1, 1, 1], "item": ["a", "b", "c"], "time": times})
    data = from_frame(frame, "t", least=1)
    assert (data.order, data.item.tolist()) == (order, [1, 2, 0] if order == "time" else [0, 1, 2])


def test_ratings_and_times_that_are_no_numbers_are_told_without_a_value():
    frame = pl.DataFrame({"user": [1, 1], "item": [3, 4], "when": ["2026-01-01", "secret"]})
    for what in ("time", "rating"):
        with pytest.raises(SchemaError, match=f"2 rows.*it stands for {what}") as caught:
            from_frame(frame, "t", least=1, columns={what: "when"})
        assert "secret" not in f"{caught.value} {caught.value.mend}"
        assert f"--column {what}=NAME" in caught.value.mend


def test_rows_without_a_number_for_rating_do_not_count():
    frame = pl.DataFrame({"user": [1, 1, 1], "item": [3, 4, 5], "rating": [1.0, float("nan"), 2.0]})
    assert len(from_frame(frame, "t", least=1).user) == 2


def test_an_unknown_protocol_lists_the_known():
    with pytest.raises(JobError) as caught:
        protocol("fair")
    assert "honest-sampled" in str(caught.value)


def test_microlens_has_its_order(raw_data, tmp_path, monkeypatch):
    monkeypatch.setenv("ISTHMUS_DATA", str(raw_data))
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path))
    found = interactions("microlens-50k")
    assert (found.users, found.items, len(found.user), found.order) == (
        50_000,
        19_220,
        359_708,
        "time",
    )


@pytest.mark.parametrize(
    ("name", "counts"),
    [("filmtrust", (1002, 2042, 33_369)), ("filmtrust-5", (1227, 2059, 34_886))],
)
def test_both_cuts_of_filmtrust(raw_data, tmp_path, monkeypatch, name, counts):
    monkeypatch.setenv("ISTHMUS_DATA", str(raw_data))
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path))
    found = interactions(name)
    # The three doubled pairs count once.
    assert (found.users, found.items, len(found.user)) == counts
    assert found.order == "none"
