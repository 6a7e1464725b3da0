"""LJ Speech: one English reader."""
