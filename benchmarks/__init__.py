"""Benchmarks with one contract: see `harness.Result` and CONTRIBUTING.md."""
