"""matplotlib to inline SVG that follows the page's theme and fonts, and is named for screen readers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape
from io import BytesIO, StringIO
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from .palette import SENTINEL, VARIABLES, Palette

WIDTH = 350
"""Points, one CSS pixel each on a phone of 390 px: the text then keeps its size there."""
LINE, MOST_LETTERS = 16, 26
"""Height of a legend's line in points, and letters of an entry of which two fit side by side."""
Draw = Callable[[Axes, Palette], None]


def theme(palette: Palette) -> dict[Any, Any]:
    """matplotlib settings that colour everything by the palette."""
    return {
        "font.size": 10.5, "axes.labelsize": 10.5, "xtick.labelsize": 10, "ytick.labelsize": 10, "legend.fontsize": 10,
        "text.color": palette.ink, "axes.labelcolor": palette.soft, "axes.edgecolor": palette.soft,
        "xtick.color": palette.soft, "ytick.color": palette.soft, "grid.color": palette.line, "grid.linewidth": 0.7,
        "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
        "legend.frameon": False, "legend.handlelength": 2.6, "axes.facecolor": "none", "svg.fonttype": "none",
        "text.parse_math": False,
    }  # fmt: skip


def svg_figure(name: str, title: str, description: str, height: float, draw: Draw, legend: bool = True) -> Markup:
    """Inline SVG of one plot.

    Args:
        name: unique on the page; prefixes every id.
        title: accessible name.
        description: what the plot shows, in words.
        height: points, with a legend of two columns; the width is WIDTH and scales with the page.
        draw: draws on the axes with the palette it is given.
        legend: put a legend below the axes.
    """
    with rc_context({**theme(SENTINEL), "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        draw(axes, SENTINEL)
        if legend:
            labels = axes.get_legend_handles_labels()[1]
            columns = legend_columns(labels)
            figure.set_figheight((height + (LINE * len(labels) // 2 if columns == 1 else 0)) / 72)
            figure.legend(loc="outside lower center", ncols=columns, columnspacing=1.2)
        out = StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return Markup(_inline(out.getvalue(), name, title, description))


def legend_columns(labels: Sequence[str]) -> int:
    """Two columns of a legend, or one where two would not fit the width."""
    return 2 if max(map(len, labels), default=0) <= MOST_LETTERS else 1


def png_figure(figure: Figure) -> bytes:
    """PNG bytes of a figure at 160 dots per inch."""
    FigureCanvasAgg(figure)
    out = BytesIO()
    figure.savefig(out, format="png", dpi=160, metadata={"Software": None})
    return out.getvalue()


def _inline(svg: str, name: str, title: str, description: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]+)"', svg)
    assert box is not None
    svg = svg[svg.index(">") + 1 :]
    svg = svg.replace("xlink:href=", "href=")
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r"font: ([^;\"]*?[0-9.]+px) [^;\"]*", r"font: \1 var(--font)", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: var(--font)", svg)
    for sentinel, variable in VARIABLES.items():
        svg = svg.replace(sentinel, variable)
    return (
        f'<svg class="plot" viewBox="{box[1]}" role="img" aria-labelledby="{name}-name {name}-description">'
        f'<title id="{name}-name">{escape(title)}</title>'
        f'<desc id="{name}-description">{escape(description)}</desc>{svg}'
    )
