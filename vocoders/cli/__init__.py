"""The programs ``vocode`` and ``vocoders``.

``vocode``: plan.py pairs inputs with outputs, execution.py does the work. ``vocoders``: each command is a file in
commands/.
"""
