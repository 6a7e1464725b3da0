"""Entry point of ``python -m vocoders``."""

import sys

from vocoders.cli.vocoders import vocoders

if __name__ == "__main__":
    sys.exit(vocoders())
