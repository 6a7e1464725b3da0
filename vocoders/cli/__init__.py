"""The programs ``vocode`` and ``vocoders``.

vocode.py: mel and sound files in, sound and mel files out; plan.py decides which files become which, execution.py does it.
vocoders.py: about models; each of its commands is a file in commands/.
"""
