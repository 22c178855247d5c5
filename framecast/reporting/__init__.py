"""Offline pages, charts and drawings of runs, comparisons and benchmarks."""
