"""The programs ``vocode`` and ``vocoders``.

vocode.py turns mel and sound files into sound and mel files: plan.py pairs inputs with outputs, execution.py does the
work. vocoders.py holds commands about models, each a file in commands/.
"""
