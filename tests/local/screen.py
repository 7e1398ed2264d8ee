"""What the demo prints: lines in a colour per customer where a terminal shows colours, tables, and a verdict."""

import heapq
import itertools
import os
import threading
import time
from collections.abc import Iterable, Sequence
from typing import TextIO

from tests.local.promises import Promise

COLOURS = {"cyan": 36, "yellow": 33, "magenta": 35, "blue": 34, "green": 32, "red": 31, "bold": 1, "": 0}
SETTLE_SECONDS = (
    0.6  # what is watched by asking is heard of a little late: lines wait so long, to come in order
)


class Screen:
    """Standard output, or anything else that is written to."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._coloured = (
            stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        )

    def line(self, text: str = "", colour: str = "") -> None:
        """Print a line at once."""
        shown = f"\033[{COLOURS[colour]}m{text}\033[0m" if colour and self._coloured else text
        print(shown, file=self._stream, flush=True)

    def heading(self, text: str) -> None:
        """Print what comes next."""
        self.line()
        self.line(text, "bold")

    def table(
        self, header: Sequence[str], rows: Iterable[Sequence[str]], colours: Iterable[str] = ()
    ) -> None:
        """Print rows of as many cells as the header has; a colour for each row, or none."""
        rows = [tuple(row) for row in rows]
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for cells, colour in zip([tuple(header), *rows], ["bold", *colours, *[""] * len(rows)], strict=False):
            padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
            self.line(f"  {'   '.join(padded).rstrip()}", colour)

    def verdict(self, promises: Sequence[Promise], seconds: float) -> bool:
        """Print each promise and what came of them all; whether all were kept."""
        self.heading("Promises")
        for promise in promises:
            figures = f" ({promise.figures})" if promise.figures else ""
            word, colour = ("kept  ", "green") if promise.kept else ("BROKEN", "red")
            self.line(f"  {word}  {promise.text}{figures}", colour)
        broken = sum(not promise.kept for promise in promises)
        self.line()
        if broken or not promises:
            self.line(f"NOT as promised: {broken} of {len(promises)} broken, after {seconds:.0f} s", "red")
            return False
        self.line(f"As promised: all {len(promises)} kept, {seconds:.0f} s from start to end", "green")
        return True


class Timeline:
    """Lines in the order in which things happened, from any thread: seconds since the start, who, what."""

    def __init__(self, screen: Screen, start: float, colours: dict[str, str]) -> None:
        self._screen = screen
        self._start = start  # epoch seconds
        self._colours = colours
        self._width = max(map(len, colours))
        self._waiting: list[tuple[float, int, str, str]] = []
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def add(self, at: float, who: str, text: str) -> None:
        """Something happened at that epoch second."""
        with self._lock:
            heapq.heappush(self._waiting, (at, next(self._numbers), who, text))

    def show(self, *, everything: bool = False) -> None:
        """Print what nothing earlier can overtake any more."""
        settled = time.time() - SETTLE_SECONDS
        with self._lock:
            while self._waiting and (everything or self._waiting[0][0] <= settled):
                at, _, who, text = heapq.heappop(self._waiting)
                self._screen.line(
                    f"{at - self._start:6.1f} s  {who:<{self._width}}  {text}", self._colours[who]
                )
