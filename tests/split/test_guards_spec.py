"""Guards by their names in a job file."""

import numpy as np
import pytest

from isthmus.errors import JobError
from isthmus.split.guards import (
    Bf16,
    Chain,
    Envelope,
    Fp8,
    Fp16,
    Integers,
    LowRank,
    PlainGuard,
    RandomK,
    TopK,
    parse_guard,
)


def build(text, direction="cut"):
    return parse_guard(text).build(np.random.default_rng(0), direction)


def kinds(text):
    guard = build(text)
    assert isinstance(guard, Envelope)
    inner = guard.guard
    return [type(part) for part in inner.guards] if isinstance(inner, Chain) else [type(inner)]


@pytest.mark.parametrize(
    ("text", "canonical", "expected"),
    [
        ("fp16", "fp16", [Fp16]),
        (" BF16 ", "bf16", [Bf16]),
        ("fp8", "fp8-e4m3", [Fp8]),
        ("fp8-e5m2", "fp8-e5m2", [Fp8]),
        ("int8", "int8", [Integers]),
        ("topk:.10", "topk:0.1", [TopK]),
        ("topk:0.1 + int8", "topk:0.1+int8", [TopK, Integers]),
        ("randomk:0.25+fp16", "randomk:0.25+fp16", [RandomK, Fp16]),
        ("lowrank:4+int4+zlib", "lowrank:4+int4+zlib", [LowRank, Integers]),
        ("zlib", "zlib", [PlainGuard]),
        ("int8+zeros", "int8+zeros", [Integers]),
    ],
)
def test_a_spec_names_its_guards(text, canonical, expected):
    spec = parse_guard(text)
    assert spec.text == canonical
    assert spec == parse_guard(canonical)
    assert kinds(text) == expected
    coder = build(text).coder
    assert (coder is None) == (canonical.rpartition("+")[2] not in ("zlib", "zeros"))


def test_none_is_plain():
    assert isinstance(build("none"), PlainGuard)
    assert not build("none").lossy


def test_gradients_are_unbiased_or_remembered_and_activations_neither():
    for direction, wanted in (("cut", False), ("gradient", True)):
        assert build("topk:0.1", direction).guard.feedback == wanted
        assert build("randomk:0.1", direction).guard.unbiased == wanted
        assert build("int4", direction).guard.stochastic == wanted
        assert build("fp8", direction).guard.stochastic == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int9", "Did you mean 'int8'"),
        ("top-k:0.1", "Did you mean 'topk:0.1'"),
        ("lowrnak:4", "Did you mean 'lowrank:4'"),
        ("fp8_e4m3", "Did you mean 'fp8-e4m3'"),
        ("wavelet", "There are none, topk"),
        ("", "there is no guard ''"),
        ("int8+", "there is no guard ''"),
        ("none+int8", "there is no guard 'none'"),
        ("topk", "needs a number. Write topk:0.1"),
        ("int8:4", "takes no number. Write int8"),
        ("topk:0", "between 0 and 1"),
        ("topk:1", "between 0 and 1"),
        ("topk:nan", "between 0 and 1"),
        ("topk:ten", "between 0 and 1"),
        ("topk:", "between 0 and 1"),
        ("lowrank:0", "a whole number from 1"),
        ("lowrank:2.5", "a whole number from 1"),
        ("lowrank:inf", "a whole number from 1"),
        ("lowrank:99999", "a whole number from 1"),
        ("int8+topk:0.1", "'topk' has no place"),
        ("topk:0.1+randomk:0.1", "'randomk' has no place"),
        ("int8+fp16", "'fp16' has no place"),
        ("zlib+int8", "'int8' has no place"),
        ("zlib+zlib", "'zlib' has no place"),
        ("zeros+zlib", "'zlib' has no place"),
    ],
)
def test_what_names_no_guard_is_explained(text, message):
    with pytest.raises(JobError) as caught:
        parse_guard(text)
    assert message in str(caught.value)
