"""Synthesis with a trained model: whole, in batches and streamed."""
