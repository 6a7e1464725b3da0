"""Sound files and mel files. Does not import torch."""
