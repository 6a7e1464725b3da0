"""Measuring copy synthesis."""
