"""What ``python -m net`` does: a module for each command, named like it.

A module's docstring is the command's help; ``arguments(parser)`` says what it takes, and
``run(options)`` does it and returns the exit status. What ``run`` raises of OSError, ValueError,
TypeError and MemoryError becomes one line on stderr and status 1 (``net.__main__``);
``options.error(message)`` refuses wrong arguments with status 2.
"""
