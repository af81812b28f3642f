"""Puts names beside points so that they do not lie on each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalsuite.report.page.canvas import TEXT_SIZE, Canvas

Box = tuple[float, float, float, float]  # left, low, right, high in pixels

CHARACTER = 0.6  # width of one over the size of the letters, on the safe side
GAP = 8.0
_AROUND = (
    (1, 0, "left", "center"),
    (-1, 0, "right", "center"),
    (0, 1, "center", "bottom"),
    (0, -1, "center", "top"),
    (1, 1, "left", "bottom"),
    (-1, 1, "right", "bottom"),
    (1, -1, "left", "top"),
    (-1, -1, "right", "top"),
)


def name_points(
    canvas: Canvas, points: Sequence[tuple[float, float, str]], others: Sequence[tuple[float, float]] = ()
) -> None:
    """Write a name beside each point (x, y, name), the first ones first; where there is no room, further off.

    others: points without a name that are to stay clear as well.
    """
    axes = canvas.axes
    canvas.figure.draw_without_rendering()  # else nothing has its place yet
    room = axes.get_window_extent()
    bounds = (room.x0, room.y0, room.x1, room.y1)
    places = [axes.transData.transform((x, y)) for x, y, _ in points]
    taken: list[Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y in [*places, *map(axes.transData.transform, others)]]
    for (x, y), (_, _, name) in zip(places, points, strict=True):
        width, height = CHARACTER * TEXT_SIZE * len(name), 1.25 * TEXT_SIZE
        tried = [
            (distance, sides, _box(x, y, width, height, sides, distance))
            for distance in (1, 2.2, 3.6)
            for sides in _AROUND
        ]
        distance, sides, box = min(tried, key=lambda trial: _badness(trial[2], taken, bounds) + trial[0])
        taken.append(box)
        across, up, horizontal, vertical = sides
        offset = (across * GAP * distance, up * GAP * distance)
        line: dict[str, Any] = {"arrowstyle": "-", "color": canvas.colours["soft"], "linewidth": 0.7}
        axes.annotate(
            name,
            axes.transData.inverted().transform((x, y)),
            offset,
            textcoords="offset points",
            ha=horizontal,
            va=vertical,
            arrowprops=line if distance > 2 else None,
        )


def _box(x: float, y: float, width: float, height: float, sides: tuple[int, int, str, str], distance: float) -> Box:
    across, up, horizontal, vertical = sides
    x, y = x + across * GAP * distance, y + up * GAP * distance
    left = {"left": x, "right": x - width, "center": x - width / 2}[horizontal]
    low = {"bottom": y, "top": y - height, "center": y - height / 2}[vertical]
    return left, low, left + width, low + height


def _badness(box: Box, taken: Sequence[Box], bounds: Box) -> float:
    """Pixels squared that are covered or outside."""
    inside = _overlap(box, bounds)
    whole = (box[2] - box[0]) * (box[3] - box[1])
    return 5 * (whole - inside) + sum(_overlap(box, other) for other in taken)


def _overlap(first: Box, second: Box) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0.0) * max(height, 0.0)


def spread_out(heights: Sequence[float], least: float) -> list[float]:
    """``heights`` moved as little as needed so that neighbours are ``least`` apart, in their order."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    moved = list(heights)
    # Pushed up one after the other, then all that overlap are drawn back to their common middle.
    groups: list[list[int]] = []
    for place in order:
        groups.append([place])
        while len(groups) > 1 and _low(groups[-1], heights, least) < _high(groups[-2], heights, least):
            groups[-2:] = [groups[-2] + groups[-1]]
    for members in groups:
        start = _low(members, heights, least) + least / 2
        for step, place in enumerate(members):
            moved[place] = start + step * least
    return moved


def _middle(members: Sequence[int], heights: Sequence[float]) -> float:
    return sum(heights[place] for place in members) / len(members)


def _low(members: Sequence[int], heights: Sequence[float], least: float) -> float:
    return _middle(members, heights) - len(members) * least / 2


def _high(members: Sequence[int], heights: Sequence[float], least: float) -> float:
    return _middle(members, heights) + len(members) * least / 2
