"""How fast and how large models are, beside the public implementations where their clones are at hand."""
