"""openvoices: two hours of freely licensed speech and singing, the corpus of the built-in models."""
