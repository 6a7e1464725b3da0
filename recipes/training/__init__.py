"""Train from a recipe."""
