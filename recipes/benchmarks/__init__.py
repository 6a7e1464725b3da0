"""Benchmark speed and memory, also of public implementations in given clones."""
