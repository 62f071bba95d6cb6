"""The figures as one SVG, drawn by hand: a plotting library would be the largest thing installed here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

WIDTH, PANEL, LEFT = 900, 260, 300
COLOURS = ("#1f6f8b", "#99a8b2")
COURSES = ("#1f6f8b", "#c06014")

Point = tuple[float, float]


def plot(results: dict[str, Any]) -> str:
    """An SVG of what *results* has: seconds of a cold fetch, of the first answer, and memory by size."""
    panels = [_bars(title, values) for title, values in results.items() if title.startswith("cold ")]
    answers = [v for t, v in results.items() if t.startswith("first answer")]
    if answers:
        points = [(float(v["instances"]), float(v["s, of 1 s"])) for v in answers]
        panels.append(_line("first answer, 1 s allowed: seconds by number of instances", points))
    memory = [v for t, v in results.items() if t.startswith("one instance of") and "MB" in v]
    if memory:
        points = [(float(v["MB"]), float(v["peak MB"])) for v in memory]
        panels.append(_line("resident at most: MB by MB of one instance", points, limit=300.0))
    body = "".join(f'<g transform="translate(0 {n * PANEL})">{panel}</g>' for n, panel in enumerate(panels))
    height = PANEL * max(len(panels), 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="white"/>{body}</svg>\n'
    )


def _text(x: float, y: float, said: str, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-weight="{weight}">{escape(said)}</text>'


def _bars(title: str, values: dict[str, Any]) -> str:
    seconds = {name.removesuffix(" s"): float(value) for name, value in values.items() if name.endswith(" s")}
    low = min(seconds.values()) / 2  # the axis is logarithmic
    per_decade = (WIDTH - LEFT - 80) / math.log10(max(seconds.values()) / low)
    drawn = [_text(20, 30, f"{title}: seconds (logarithmic)", weight="bold")]
    for n, (name, value) in enumerate(seconds.items()):
        y, length = 50 + n * 36, per_decade * math.log10(value / low)
        drawn.append(_text(LEFT - 10, y + 17, name, "end"))
        drawn.append(f'<rect x="{LEFT}" y="{y}" width="{length:.0f}" height="24" fill="{COLOURS[n > 0]}"/>')
        drawn.append(_text(LEFT + length + 6, y + 17, f"{value:.2f}"))
    return "".join(drawn)


def _line(title: str, points: Sequence[Point], limit: float = 1.0) -> str:
    widest, highest = max(x for x, _ in points), max(limit, *(y for _, y in points)) * 1.1

    def at(x: float, y: float) -> Point:
        return 60 + x / widest * (WIDTH - 160), PANEL - 40 - y / highest * (PANEL - 90)

    places = [at(*point) for point in points]
    (x0, y0), (x1, yl) = at(0, 0), at(widest, limit)
    drawn = [
        _text(20, 30, title, weight="bold"),
        f'<path d="M{x0:.0f} {y0:.0f}H{x1:.0f}" stroke="black"/>',
        f'<path d="M{x0:.0f} {yl:.0f}H{x1:.0f}" stroke="#b33" stroke-dasharray="5 4"/>',
        _text(x1 + 6, yl + 4, f"{limit:g}"),
        f'<polyline points="{" ".join(f"{x:.0f},{y:.0f}" for x, y in places)}" fill="none" stroke="{COLOURS[0]}"/>',
    ]
    for (x, y), (size, value) in zip(places, points, strict=True):
        drawn.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="4" fill="{COLOURS[0]}"/>')
        drawn.append(_text(x, y - 10, f"{value:.3g}", "middle"))
        drawn.append(_text(x, y0 + 18, f"{size:g}", "middle"))
    return "".join(drawn)


@dataclass(frozen=True)
class Panel:
    """Figures over time: one line for each name."""

    title: str
    lines: Mapping[str, Sequence[Point]]
    """Name → seconds and the figure."""


def courses(panels: Sequence[Panel], shaded: Sequence[tuple[float, float, str]] = ()) -> str:
    """An SVG of figures over time; *shaded* times, from, until and why, are grey and tell why when pointed at."""
    until = max((x for panel in panels for points in panel.lines.values() for x, _ in points), default=1.0)
    drawn = []
    for n, panel in enumerate(panels):
        most = max((y for points in panel.lines.values() for _, y in points), default=1.0) * 1.1 or 1.0
        per_second, per_unit = (WIDTH - 100) / until, (PANEL - 90) / most
        body = [_text(20, 30, panel.title, weight="bold")]
        for began, ended, why in shaded:
            x, width = 60 + began * per_second, max((ended - began) * per_second, 1)
            body.append(
                f'<rect x="{x:.1f}" y="50" width="{width:.1f}" height="{PANEL - 90}" fill="#ddd">'
                f"<title>{escape(why)}</title></rect>"
            )
        for number, (name, points) in enumerate(panel.lines.items()):
            colour = COURSES[number]
            places = " ".join(f"{60 + x * per_second:.1f},{PANEL - 40 - y * per_unit:.1f}" for x, y in points)
            body.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.2"/>')
            place = f'x="{300 + 200 * number}" y="30" fill="{colour}" font-weight="bold"'
            body.append(f"<text {place}>{escape(name)}</text>")
        body.append(f'<path d="M60 50V{PANEL - 40}H{WIDTH - 40}" fill="none" stroke="black"/>')
        body.append(_text(55, 56, f"{most / 1.1:.3g}", "end"))
        body.append(_text(WIDTH - 40, PANEL - 22, f"{until / 60:.0f} min", "end"))
        drawn.append(f'<g transform="translate(0 {n * PANEL})">{"".join(body)}</g>')
    height = PANEL * max(len(panels), 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="white"/>{"".join(drawn)}</svg>\n'
    )
