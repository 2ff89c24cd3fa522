"""Free places in a range of addresses, allocated first fit.

A pass that is repeated gets the same places again, whose pages the system has provided before.
"""

import bisect

PAGE = 4096


class Gaps:
    """The free places of a range of addresses.

    Attributes:
        used: the highest end of any place since ``shrink``, in bytes.
    """

    def __init__(self, nbytes: int):
        self.nbytes = nbytes
        self._gaps = [(0, nbytes)]
        self.used = 0

    def take(self, nbytes: int) -> tuple[int, int] | None:
        """(begin, end) of a place for ``nbytes``, in whole pages; None if no gap is long enough."""
        length = -(-nbytes // PAGE) * PAGE
        for number, (begin, end) in enumerate(self._gaps):
            if begin + length <= end:
                rest = [(begin + length, end)] if begin + length < end else []
                self._gaps[number : number + 1] = rest
                self.used = max(self.used, begin + length)
                return begin, begin + length
        return None

    def give_back(self, begin: int, end: int) -> None:
        """Free a place: it becomes one gap with those beside it."""
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

    def reusable_bytes(self) -> int:
        """Bytes of the gaps below ``used``."""
        return sum(max(0, min(end, self.used) - begin) for begin, end in self._gaps)

    def shrink(self) -> tuple[int, int]:
        """(begin, end) of what was used behind the last place; it is not ``used`` any more."""
        end = self.used
        if self._gaps and self._gaps[-1][1] == self.nbytes:
            self.used = self._gaps[-1][0]
        return self.used, end
