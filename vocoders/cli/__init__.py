"""The programs ``vocode`` and ``vocoders``.

vocode.py turns mel and sound files into sound and mel files: plan.py decides which become which, execution.py does it.
vocoders.py is about models: each of its commands is a file in commands/.
"""
