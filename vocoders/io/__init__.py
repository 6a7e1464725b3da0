"""Sound files and mel files: reading, writing and resampling. Does not import torch."""
