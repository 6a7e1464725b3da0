"""Measurement of copy synthesis."""
