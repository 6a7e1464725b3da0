"""Opencpop: one Mandarin singer at 44.1 kHz."""
