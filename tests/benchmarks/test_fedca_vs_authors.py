"""What the benchmark makes of the authors' curves; neither program is run here."""

import json

import pytest
from benchmarks.fedca_vs_authors import (
    apart,
    closeness,
    curves,
    distances,
    known,
    result_of,
    table,
)

from benchmarks import fedca_vs_authors

PART = {
    "theirs": 10.0, "ours": 0.1, "ours_cpu": 0.2,
    "quality": {
        "ours": [
            {"best": [0.5, 0.3], "round": 2, "rounds": [[0.1, 0.05], [0.3, 0.2], [0.4, 0.3]]},
            {"best": [0.7, 0.5], "round": 3, "rounds": [[0.3, 0.15], [0.5, 0.4], [0.6, 0.5]]},
        ],
        "theirs": {"0": [[0.2, 0.1], [0.5, 0.3]], "1": [[0.4, 0.2]]},
    },
}  # fmt: skip


def test_distances_go_as_far_as_theirs_was_run():
    """Round 1: their mean 0.3 and 0.15; round 2: of one seed."""
    found = distances(PART)
    assert [one[0] for one in found] == [1, 1, 2, 2]
    assert [one[1] for one in found] == pytest.approx([0.2, 0.1, 0.4, 0.3])
    assert [one[3] for one in found] == pytest.approx([0.3, 0.15, 0.5, 0.3])
    root = 2**-0.5  # deviations of two values are their distance over the root of 2
    assert [one[2] for one in found] == pytest.approx(
        [0.2 * root, 0.1 * root, 0.2 * root, 0.2 * root]
    )
    # 0.1 / 0.2, 0.05 / 0.1, 0.1 / 0.2 and 0, each over that root.
    assert closeness(PART) == pytest.approx(4 * root / 1.5)
    assert distances({}) == []


def test_a_case_without_quality_still_has_its_row():
    name = fedca_vs_authors.CASES[0].name
    full, bare = dict(PART), {k: v for k, v in PART.items() if k != "quality"}
    row = table({name: full})[0]
    assert row[6:] == ["2", "0.400 ± 0.141 / 0.300 ± 0.141", "0.500 / 0.300 (1)",
                       "0.600 ± 0.141 / 0.400 ± 0.141 (2)", "–"]  # fmt: skip
    assert table({name: bare})[0][6:] == ["–"] * 5


def test_results_are_compared_over_whole_runs_alone(monkeypatch):
    """Theirs: the last round with the best HR@10 of the one curve of two rounds."""
    assert apart(PART) is None
    monkeypatch.setattr(fedca_vs_authors, "ROUNDS", 2)
    assert result_of([[0.5, 0.3], [0.5, 0.2], [0.4, 0.9]]) == [0.5, 0.2]
    # Ours 0.6 and 0.4, each with the deviation 0.2 / sqrt 2; theirs 0.5 and 0.3.
    assert apart(PART) == pytest.approx(2**0.5)
    name = fedca_vs_authors.CASES[0].name
    assert table({name: PART})[0][-1] == "0.500 / 0.300 (1)"
    short = PART["quality"] | {"trained": 1}
    assert apart(PART | {"quality": short}) is None


def test_curves_leave_out_a_line_that_is_not_whole(tmp_path):
    line = '@{"hr": 0.25, "ndcg": 0.125}'
    (tmp_path / "one-seed-3.jsonl").write_text(f'Model(\n{line}\n{line}\n@{{"hr": 0.')
    (tmp_path / "other-seed-3.jsonl").write_text(line)
    (tmp_path / "one-seed-4.jsonl").write_text("")
    assert curves("one", tmp_path) == {"3": [[0.25, 0.125]] * 2}


def test_measuring_seconds_again_leaves_the_published_quality(tmp_path, monkeypatch):
    published = {"raw": {"a": {"ours": 1, "quality": 2}, "b": {"ours": 3}}}
    (tmp_path / "fedca_vs_authors.json").write_text(json.dumps(published))
    kept = tmp_path / "parts.json"
    monkeypatch.setattr(fedca_vs_authors, "RESULTS", tmp_path)
    assert known(kept) == published["raw"]
    kept.write_text(json.dumps({"a": {"ours": 5}, "c": {"ours": 6}}))
    assert known(kept) == {"a": {"ours": 5, "quality": 2}, "b": {"ours": 3}, "c": {"ours": 6}}
