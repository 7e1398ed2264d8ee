"""Plots as SVG, by hand: bars and lines are all that is needed, and no package has to be installed for them."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, ROW, LEFT, RIGHT = 760, 26, 250, 110
COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#64748b")
FONT = 'font-family="sans-serif" font-size="12"'


def bars(title: str, values: Mapping[str, float], *, unit: str = "", mark: float | None = None) -> str:
    """A horizontal bar for each value; `mark`: a dashed line, such as a target."""
    most = max([*values.values(), mark or 0]) or 1
    scale = (WIDTH - LEFT - RIGHT) / most
    height = 50 + ROW * len(values)
    parts = [_text(10, 22, title, weight="bold")]
    for row, (name, value) in enumerate(values.items()):
        y = 40 + row * ROW
        parts.append(_text(LEFT - 8, y + 13, name, anchor="end"))
        parts.append(
            f'<rect x="{LEFT}" y="{y}" width="{value * scale:.1f}" height="18" fill="{COLOURS[0]}"/>'
        )
        parts.append(_text(LEFT + value * scale + 6, y + 13, f"{value:,.2f} {unit}".strip()))
    if mark is not None:
        x = LEFT + mark * scale
        parts.append(
            f'<line x1="{x:.1f}" y1="32" x2="{x:.1f}" y2="{height - 8}" stroke="#dc2626" stroke-dasharray="4 3"/>'
        )
    return _svg(height, parts)


def lines(title: str, x_name: str, y_name: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """A line for each series of (x, y) points."""
    points = [point for line in series.values() for point in line]
    left, top, bottom, right = 70, 40, 330, WIDTH - 200
    x_most = max(x for x, _ in points) or 1
    y_most = max(y for _, y in points) * 1.05 or 1

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x / x_most * (right - left), bottom - y / y_most * (bottom - top)

    parts = [_text(10, 22, title, weight="bold")]
    for step in range(6):
        x, y = place(x_most * step / 5, y_most * step / 5)
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#e2e8f0"/>')
        parts.append(_text(left - 6, y + 4, f"{y_most * step / 5:,.3g}", anchor="end"))
        parts.append(_text(x, bottom + 18, f"{x_most * step / 5:,.3g}", anchor="middle"))
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(
            f'<rect x="{right + 16}" y="{top + number * 20}" width="12" height="12" fill="{colour}"/>'
        )
        parts.append(_text(right + 34, top + number * 20 + 10, name))
    parts.append(_text((left + right) / 2, bottom + 38, x_name, anchor="middle"))
    parts.append(_text(left, top - 6, y_name))
    return _svg(bottom + 50, parts)


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {FONT} text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'


def _svg(height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"])
