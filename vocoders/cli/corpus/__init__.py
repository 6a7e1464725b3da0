"""``vocode --ray``: a corpus on the machines of a Ray cluster."""
