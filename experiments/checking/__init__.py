"""The checks of ``experiments.check``.

Each module gives ``checks(ops)``: pairs of a name and a function without arguments, which says what
it found, or raises an error that says what is wrong.
"""
