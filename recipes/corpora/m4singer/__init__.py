"""M4Singer: twenty Mandarin singers at 48 kHz."""
