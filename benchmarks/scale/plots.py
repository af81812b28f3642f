"""One picture a curve: seconds on the left, memory on the right, both axes logarithmic, every line named at its end."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scale.fitting import fit
from evalsuite.report.page.canvas import COLOURS, MARKERS, SERIES, STYLES
from evalsuite.report.page.placing import spread_out

MEGABYTE = 1e6
LETTERS = 9.0  # points
SIZE = (12.4, 4.6)  # inches
LEAST_MEMORY = 1.0  # MB: less is what any page or two of the allocator makes


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Write the picture of a curve's results to ``path``, SVG or PNG by its suffix."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    ink, soft = COLOURS["ink"][0], COLOURS["soft"][0]
    look: dict[str, Any] = {
        "font.family": "sans-serif",
        "font.sans-serif": ["Inter", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans"],
        "font.size": LETTERS,
        "text.color": ink,
        "axes.labelcolor": soft,
        "xtick.color": soft,
        "ytick.color": soft,
        "axes.edgecolor": COLOURS["line"][0],
        "mathtext.fontset": "custom",
        **{f"mathtext.{style}": "sans" for style in ("rm", "bf", "tt", "cal", "sf")},
        "mathtext.it": "sans:italic",
        "svg.fonttype": "none",
        "svg.hashsalt": found["curve"],
    }
    with rc_context(look), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "findfont", UserWarning)
        figure = Figure(figsize=SIZE, layout="constrained", facecolor=COLOURS["paper"][0])
        seconds, memory = figure.subplots(1, 2)
        _panel(seconds, found, lambda point: point["seconds"], "seconds")
        _panel(memory, found, lambda point: max(point["peak_bytes"] / MEGABYTE, LEAST_MEMORY), "memory, MB")
        figure.suptitle(f"Cost against {found['unit']}", x=0.01, ha="left", fontsize=13, fontweight="bold")
        figure.supxlabel(found["fixed"], x=0.01, ha="left", fontsize=LETTERS, color=soft)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=120)


def _panel(axes: Any, found: Mapping[str, Any], value: Any, name: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = []
    for number, stage in enumerate(found["stages"]):
        sizes = [point["size"] for point in stage["points"]]
        values = [value(point) for point in stage["points"]]
        colour = COLOURS[f"series-{number % SERIES}"][0]
        axes.plot(
            sizes,
            values,
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            linestyle=STYLES[number // SERIES],
            markersize=4.5,
            linewidth=1.5,
        )
        ends.append((sizes[-1], values[-1], _label(stage["name"], sizes, values), colour))
    sizes = sorted({point["size"] for stage in found["stages"] for point in stage["points"]})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    _at_least_a_decade(axes)
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda shown, place: f"{shown:,g}")
    axes.set_title(name, loc="left", fontsize=LETTERS + 1, color=COLOURS["ink"][0])
    axes.set_xlabel(found["unit"])
    axes.grid(True, color=COLOURS["line"][0], linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)
    _name_ends(axes, ends, sizes[-1])


def _label(name: str, sizes: Sequence[int], values: Sequence[float]) -> str:
    """The stage with its exponent; its name alone where all its values are the least that is shown."""
    line = fit(sizes, values)
    if line is None or min(values) == max(values):
        return name
    return f"{name}  $n^{{{line.exponent:.1f}}}$" if abs(line.exponent) >= 0.05 else f"{name}  constant"


def _at_least_a_decade(axes: Any) -> None:
    """Else what hardly changes would fill the height, beside no power of ten."""
    low, high = axes.get_ylim()
    if high < 10 * low:
        middle, reach = (low * high) ** 0.5, 10**0.55
        axes.set_ylim(middle / reach, middle * reach)


def _name_ends(axes: Any, ends: Sequence[tuple[float, float, str, str]], largest: float) -> None:
    """Names at the right, each at the height of its line's end or a little off, where others are in its way."""
    axes.figure.draw_without_rendering()
    pixel = axes.transData.transform
    heights = [float(pixel((x, y))[1]) for x, y, _, _ in ends]
    least = LETTERS * 1.35 * axes.figure.dpi / 72
    right = float(pixel((largest, 1))[0]) + 14
    for (x, y, name, colour), height in zip(ends, spread_out(heights, least), strict=True):
        at = axes.transData.inverted().transform((right, height))
        start = np.asarray([x, y])
        axes.annotate(
            name,
            start,
            at,
            color=colour,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6, "relpos": (0, 0.5)},
        )
