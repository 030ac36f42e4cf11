"""The job of two parties on made-up tables that many tests begin from."""

TEXT = """\
isthmus: 1
name: tiny
seed: 3
parties:
  alice:
    table: alice/people.csv
    features: {Age: numeric, Income: numeric, Trait1: categorical, Trait2: categorical}
  bob:
    table: bob/events.csv
    features:
      ItemID: categorical
      Tags: {kind: multi_hot, separator: "|"}
label: {party: bob, expression: "Clicked == 1"}
align: {key: ID}
train:
  model: {dim: 4, bottom: [8], top: [8]}
  batch_size: 64
  epochs: 2
  learning_rate: 0.03
evaluate: {resamples: 50}
"""
