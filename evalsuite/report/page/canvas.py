"""Draws figures with matplotlib: SVG whose colours are the page's own, so that it suits light and dark; or PNG."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.errors import UsageError
from evalsuite.report.page.content import Figure, safe

# Role -> colour on white and on near-black. The series are those of Okabe and Ito, "Color Universal Design", 2008,
# without yellow, which white swallows; on dark they are lightened where they would sink.
COLOURS: Mapping[str, tuple[str, str]] = {
    "ink": ("#1c2128", "#e8eaed"),
    "soft": ("#5f6873", "#9aa4b0"),
    "line": ("#dfe3e8", "#30363d"),
    "paper": ("#ffffff", "#15191e"),
    "series-0": ("#0072b2", "#4ea8e0"),
    "series-1": ("#d55e00", "#ff8a3d"),
    "series-2": ("#009e73", "#2bc59a"),
    "series-3": ("#b8578f", "#e19ac3"),
    "series-4": ("#b97f00", "#e9b130"),
    "series-5": ("#2f8fc4", "#8fd0f5"),
    "series-6": ("#555d66", "#b6bec7"),
}
SERIES = 7
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)))
FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
_STAND_IN = {role: f"#fe{number:02x}01" for number, role in enumerate(COLOURS)}
_FORMATS = (".svg", ".png")
TEXT_SIZE = 12


@dataclass(frozen=True)
class Canvas:
    """One figure being drawn. ``colours``: role -> colour to draw with."""

    figure: Any
    axes: Any
    colours: Mapping[str, str]

    def series(self, number: int) -> dict[str, Any]:
        """Colour and marker of the system with this number, the same in every figure."""
        return {"color": self.colours[f"series-{number % SERIES}"], "marker": MARKERS[number % len(MARKERS)]}

    def style(self, number: int) -> Any:
        """The line style of the system with this number."""
        return STYLES[number % len(STYLES)]

    def key(self, columns: int) -> None:
        """What each sign means, under the axes; what was drawn last comes first."""
        self.figure.legend(
            *(part[::-1] for part in self.axes.get_legend_handles_labels()),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
        )


def require_matplotlib() -> None:
    """Raises: UsageError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError(
            "plots need matplotlib, which is not installed: pip install 'evalsuite[report]', or write Markdown, which "
            "has no plots: -o report.md"
        ) from None


def svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element for a page that defines the colours; the same figure gives the same text."""
    text = _drawn(figure, "svg", _STAND_IN).decode()
    text = text[text.index("<svg") :]
    for role, colour in _STAND_IN.items():
        text = text.replace(colour, f"var(--{role})")
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    # Several figures on one page would share their ids.
    text = re.sub(r'\bid="', f'id="{figure.name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{figure.name}-", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r"\n\s*", "\n", text)
    width, height = figure.size
    label = html.escape(safe(figure.title))
    kind = ' class="bright"' if figure.bright else ""
    head = f'<svg{kind} viewBox="0 0 {width} {height}" role="img" aria-label="{label}" '
    head += f'style="max-width:{1.25 * width:g}px">'
    return head + text[text.index(">", text.index("<svg")) + 1 :]


def save(figure: Figure, path: Path) -> None:
    """Write the figure alone: ``.svg``, which follows the reader's light or dark, or ``.png`` in light.

    Raises:
        UsageError: another ending.
    """
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"{path}: a plot is written as {' or '.join(_FORMATS)}; name such a file with -o")
    if path.suffix.lower() == ".png":
        path.write_bytes(_drawn(figure, "png", {role: light for role, (light, _) in COLOURS.items()}))
        return
    width, height = figure.size
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head += f' width="{1.6 * width:g}" height="{1.6 * height:g}"'
    style = f"<style>{colour_rules('svg')} svg{{background:var(--paper)}} text{{font-family:{FONT}}} {HALO}</style>"
    text = re.sub(' style="max-width:[^"]+"', "", svg(figure), count=1).replace("<svg", head, 1)
    end = text.index(">") + 1
    path.write_text(text[:end] + style + text[end:] + "\n", encoding="utf-8")


# Words stay readable where a line passes behind them.
HALO = ".bright text{paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}"


def colour_rules(selector: str) -> str:
    """The style sheet's definition of every colour, light, and dark where the reader prefers it."""
    light, dark = (";".join(f"--{role}:{colours[mode]}" for role, colours in COLOURS.items()) for mode in (0, 1))
    return f"{selector}{{{light}}} @media (prefers-color-scheme:dark){{{selector}{{{dark}}}}}"


def _drawn(figure: Figure, kind: str, colours: Mapping[str, str]) -> bytes:
    with _settings(colours), warnings.catch_warnings():
        # The page's reader has the font; here it only serves to measure.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Drawing

        width, height = figure.size
        drawing = Drawing(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
        FigureCanvasAgg(drawing)
        figure.draw(Canvas(drawing, drawing.add_subplot(), colours))
        stream = io.BytesIO()
        # SVG has no date so that the same runs make the same bytes; PNG is twice as fine as a plain screen.
        options: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {"dpi": 144}
        drawing.savefig(stream, format=kind, transparent=kind == "svg", **options)
        return stream.getvalue()


@contextmanager
def _settings(colours: Mapping[str, str]) -> Iterator[None]:
    import matplotlib

    ink, soft, line = colours["ink"], colours["soft"], colours["line"]
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "evalsuite",
        "text.parse_math": False,  # a dollar sign in a label is a dollar sign
        "font.family": ["DejaVu Sans"],
        "font.size": TEXT_SIZE,
        "text.color": ink,
        "axes.labelcolor": soft,
        "axes.edgecolor": line,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.labelsize": TEXT_SIZE,
        "figure.facecolor": colours["paper"],
        "grid.color": line,
        "grid.linewidth": 0.8,
        "xtick.color": line,
        "ytick.color": line,
        "xtick.labelcolor": soft,
        "ytick.labelcolor": soft,
        "xtick.labelsize": TEXT_SIZE,
        "ytick.labelsize": TEXT_SIZE,
        "xtick.minor.visible": False,
        "lines.linewidth": 1.8,
        "lines.markersize": 6,
        "legend.fontsize": TEXT_SIZE,
        "legend.labelcolor": ink,
    }
    with matplotlib.rc_context(settings):
        yield
