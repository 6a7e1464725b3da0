"""VCTK 0.92: 110 English speakers at 48 kHz."""
