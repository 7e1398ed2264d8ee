"""What a part of the proof shows, and the table of it all."""

from collections.abc import Sequence

type Row = tuple[str, str, bool]
"""What was looked at, the figure, and whether everything held."""


def table(rows: Sequence[Row]) -> str:
    """One line each, what did not hold marked."""
    names = max((len(name) for name, _, _ in rows), default=0)
    figures = max((len(figure) for _, figure, _ in rows), default=0)
    return "\n".join(
        f"  {name:<{names}}  {figure:>{figures}}  {'ok' if kept else 'BROKEN'}" for name, figure, kept in rows
    )
