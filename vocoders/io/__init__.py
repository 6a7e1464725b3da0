"""Sound files and mel files: reading, writing and resampling, without torch."""
