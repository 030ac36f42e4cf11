"""The page on networks of one's own: its example runs as it stands, its errors are true."""

import re
from pathlib import Path

import pytest
import torch

from isthmus.errors import IsthmusError
from isthmus.split.cuts import named_cut

PAGE = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()


@pytest.fixture(scope="module")
def example():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    return code


def run(code, capsys):
    names = {}
    exec(compile(code, "networks.md", "exec"), names)
    return float(re.fullmatch(r"test AUC: (\S+)\n", capsys.readouterr().out)[1])


def test_the_example_learns_what_neither_party_knows(example, capsys):
    assert "above 0.95" in PAGE
    assert run(example, capsys) > 0.95


def test_without_alice_there_is_nothing_to_learn(example, capsys):
    assert example.count("return self.layers(rows)  #") == 1
    silent = example.replace("return self.layers(rows)  #", "return self.layers(rows) * 0  #")
    assert run(silent, capsys) < 0.6


@pytest.mark.parametrize(
    "output", [torch.zeros(3, 5, dtype=torch.int64), torch.zeros(63, 5)], ids=["kind", "rows"]
)
def test_the_errors_of_the_page(output):
    with pytest.raises(IsthmusError) as caught:
        named_cut(output, "alice", 3 if len(output) == 3 else 64)
    assert f"error [{caught.value.code}] {caught.value.message}\n" in PAGE


def test_the_error_of_a_top_that_says_what_it_expects(example):
    assert example.count("seeded_linear(16, width, rng)") == 1
    names = {}
    narrow = "seeded_linear(16, min(width, 6), rng)"
    with pytest.raises(IsthmusError) as caught:
        exec(example.replace("seeded_linear(16, width, rng)", narrow), names)
    assert f"error [{caught.value.code}] {caught.value.message}\n" in PAGE
