"""Shared by tests: small models, signals, corpora, servers, a browser."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""
DATA = ROOT / "tests" / "data"
