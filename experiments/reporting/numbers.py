"""Numbers as tables and sentences show them."""

from __future__ import annotations


def short(value: float, digits: int = 3) -> str:
    """``value`` to so many digits, and whole from 1000 on.

    >>> short(17.642), short(999.6), short(2226123.4)
    ('17.6', '1000', '2226123')
    """
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if abs(float(text)) >= 1000 else text


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "pixel"), counted(20, "pixel")
    ('1 pixel', '20 pixels')
    """
    return f"{number} {noun}{'s' * (number != 1)}"
