"""``vocode --ray``: do a corpus on a Ray cluster."""
