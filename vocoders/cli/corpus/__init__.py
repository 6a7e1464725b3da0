"""``vocode --ray``: process a corpus on a Ray cluster."""
