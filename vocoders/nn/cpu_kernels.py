"""Fast paths on a processor."""

import torch


def keep_freed_memory() -> None:
    """Make the C library of Linux keep freed memory for the next operation.

    It gives large blocks back to the system when they are freed, and faulting them in again for the next operation
    took up to half of the time. Freeing one block of 32 MiB raises its threshold for the rest of the process.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)
