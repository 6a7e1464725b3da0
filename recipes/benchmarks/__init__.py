"""Benchmarks of speed and memory, beside the public implementations where clones of them are given."""
