"""Reading and writing sound files and mel files."""
