"""The benchmark's figures: what each is, its target, what was measured; printed as a table, written as CSV."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One line of the results. `number`: of the target (None: no target, printed for comparison)."""

    number: int | None
    what: str
    value: float
    unit: str = "×"
    target: float | None = None
    at_least: bool = False  # the target is a lower bound
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None: there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def cells(self) -> list[str]:
        """One row of the table."""
        bound = "" if self.target is None else f"{'≥' if self.at_least else '≤'} {_short(self.target)}"
        met = {None: "", True: "met", False: "**not met**"}[self.met]
        value = f"{_short(self.value)} {self.unit}".strip()
        return [str(self.number or ""), self.what, value, bound, met, self.note]


HEAD = ["#", "figure", "measured", "target", "", "how"]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write(figures: Sequence[Figure], folder: Path, preface: str) -> str:
    """The figures as `figures.md` and `figures.csv` in `folder`; returns the table."""
    folder.mkdir(parents=True, exist_ok=True)
    text = table(HEAD, [figure.cells() for figure in figures])
    (folder / "figures.md").write_text(f"{preface}\n\n{text}")
    with (folder / "figures.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["number", "figure", "measured", "unit", "target", "at_least", "met", "note"])
        for each in figures:
            row = (
                each.number,
                each.what,
                each.value,
                each.unit,
                each.target,
                each.at_least,
                each.met,
                each.note,
            )
            rows.writerow(row)
    return text


def _short(value: float) -> str:
    if value == int(value) and abs(value) >= 10:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"
