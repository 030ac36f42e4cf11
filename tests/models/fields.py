"""Two parties' encoded fields, and the vectors that an embedding table gives for them, by hand."""

import numpy as np
import polars as pl
import torch

from isthmus.data import fit_encoder
from isthmus.models.batch import make_batch

ROWS = 5
_KINDS = {
    "alice": {"user": "categorical", "age": "numeric"},
    "bob": {"item": "categorical", "tags": {"kind": "multi_hot", "separator": "|"}},
}
_TABLES = {
    "alice": pl.DataFrame(
        {"user": ["u", "v", "u", None, "w"], "age": [20.0, 30.0, None, 50.0, 60.0]}
    ),
    "bob": pl.DataFrame(
        {"item": [1, 2, 3, 1, 2], "tags": ["a|b|c", "", "b", "c|a", None]},
        schema={"item": pl.Int64, "tags": pl.String},
    ),
}
PARTIES = tuple(_TABLES)


def features_of():
    """Each party's encoded features."""
    return {
        party: fit_encoder(table, _KINDS[party], np.arange(ROWS)).encode(table)
        for party, table in _TABLES.items()
    }


def batch_of(features):
    """All rows as a batch."""
    index, values = features.gather(np.arange(ROWS))
    return make_batch(features.layout, index, values, backward=True)


def fields_by_hand(weight, features):
    """The fields' vectors [rows, fields, width] by plain indexing, differentiable in `weight`."""
    index, values = features.gather(np.arange(ROWS))
    rows = []
    for row in range(ROWS):
        own = []
        for field in features.layout.fields:
            tokens = [weight[int(i)] for i in index[row, field.columns] if i != 0]
            term = torch.stack(tokens).mean(0) if tokens else torch.zeros_like(weight[0])
            if field.value_column is not None:
                term = term * float(values[row, field.value_column])
            own.append(term)
        rows.append(torch.stack(own))
    return torch.stack(rows)


def gradients(modules, loss):
    """Every parameter's gradient of `loss`, dense, by name; the modules are left without any."""
    loss.backward()
    found = {}
    for name, module in modules.items():
        for key, parameter in module.named_parameters():
            assert parameter.grad is not None, f"{name}.{key} has no gradient"
            found[f"{name}.{key}"] = parameter.grad.to_dense().clone()
            parameter.grad = None
    return found


def assert_same_network(bottoms, top, naive):
    """The split network's logits and gradients are those of `naive(fields of each party)`."""
    features = features_of()
    modules = {**bottoms, "top": top}
    split = top({p: bottom(batch_of(features[p])) for p, bottom in bottoms.items()})
    whole = naive({p: fields_by_hand(b.table.weight, features[p]) for p, b in bottoms.items()})
    torch.testing.assert_close(split, whole, rtol=1e-5, atol=1e-6)
    assert whole.std() > 1e-3
    ours, theirs = (
        gradients(modules, split.square().sum()),
        gradients(modules, whole.square().sum()),
    )
    for name in ours:
        # Padding has no gradient by rule; by hand it is never looked up.
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5, msg=name)
        assert ours[name].abs().sum() > 0, name
