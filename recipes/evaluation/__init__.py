"""Measure copy synthesis."""
