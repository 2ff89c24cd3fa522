"""Places in a range of addresses: each array takes the first gap that it fits into.

So a pass that is repeated finds the same places again, with the pages that the system gave.
"""

import bisect

PAGE = 4096


class Gaps:
    """The free places of a range of addresses.

    Attributes:
        used: the highest end of any place so far, in bytes.
    """

    def __init__(self, nbytes: int):
        self._gaps = [(0, nbytes)]
        self.used = 0

    def take(self, nbytes: int) -> tuple[int, int] | None:
        """(begin, end) of a place for ``nbytes``, whole pages; None where there is none."""
        length = -(-nbytes // PAGE) * PAGE
        for number, (begin, end) in enumerate(self._gaps):
            if begin + length <= end:
                rest = [(begin + length, end)] if begin + length < end else []
                self._gaps[number : number + 1] = rest
                self.used = max(self.used, begin + length)
                return begin, begin + length
        return None

    def give_back(self, begin: int, end: int) -> None:
        """Join a place with the gaps around it."""
        at = bisect.bisect(self._gaps, (begin, end))
        if at < len(self._gaps) and self._gaps[at][0] == end:
            end = self._gaps.pop(at)[1]
        if at > 0 and self._gaps[at - 1][1] == begin:
            at -= 1
            begin = self._gaps.pop(at)[0]
        self._gaps.insert(at, (begin, end))

    def free_bytes(self) -> int:
        """Bytes of all gaps."""
        return sum(end - begin for begin, end in self._gaps)

    def kept_bytes(self) -> int:
        """Bytes of the gaps below ``used``."""
        return sum(max(0, min(end, self.used) - begin) for begin, end in self._gaps)
