"""JSUT: one Japanese reader."""
