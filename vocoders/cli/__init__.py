"""The programs ``vocode`` and ``vocoders``: one file each, beside the plan and the execution of a ``vocode`` call."""
