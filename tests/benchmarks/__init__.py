"""Timings, by `make bench` and `make bench-peers`: figures for docs/benchmarks.md, no assertions of the test suite."""
