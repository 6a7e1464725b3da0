"""The programs ``vocode`` and ``vocoders``.

vocode.py converts mel and sound files: plan.py pairs inputs with outputs, execution.py does the work. vocoders.py holds
commands about models, each a file in commands/.
"""
