"""Layers and their fast paths."""
