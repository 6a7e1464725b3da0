"""Layers, their fast paths on a CPU, and the evaluation of networks piece by piece."""
