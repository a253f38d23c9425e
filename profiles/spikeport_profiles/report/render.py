"""From the document to HTML and Markdown text; both templates escape every value."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from . import numbers
from .accuracy import snr_text
from .figures import page_figures
from .reading import READING_GUIDE
from .sparsity import COUNTS

_COUNT_LABELS = dict(zip(COUNTS, (
    "spikes", "SynOps", "MACs executed", "MACs algebraic", "neuron updates", "weight bytes", "activation bytes",
    "state bytes",
), strict=True))  # fmt: skip
_UNIT = re.compile(r"(?<=\d) (?=(?:%|dB|[fpnµmkMG]?[JsWB]|[kMG]|GHz|ms)(?:\W|$))")


def html_text(document: dict[str, Any]) -> str:
    """One self-contained page: inline style, inline SVG, no script, nothing fetched."""
    environment = _environment()
    environment.finalize = _keep_units
    style, _, _ = environment.loader.get_source(environment, "style.css")  # type: ignore[union-attr]
    template = environment.get_template("report.html")
    return template.render(report=document, figures=page_figures(document), style=Markup(style))


def markdown_text(document: dict[str, Any]) -> str:
    """The same sections and tables as Markdown, without plots."""
    environment = _environment()
    environment.finalize = _markdown_escape
    return re.sub(r"\n{3,}", "\n\n", environment.get_template("report.md").render(report=document)).strip() + "\n"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.do"],
    )  # fmt: skip
    environment.globals["reading_guide"] = READING_GUIDE
    environment.filters |= {
        "quantity": numbers.quantity_text,
        "nominal": numbers.nominal_text,
        "range": numbers.range_text,
        "count": numbers.count_text,
        "percent": numbers.percent_text,
        "db": numbers.decibel_text,
        "snr": snr_text,
        "about": numbers.source_text,
        "plural": numbers.plural,
    }
    environment.globals["count_labels"] = _COUNT_LABELS
    return environment


def _keep_units(value: Any) -> Any:
    """No line break between a number and its unit."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else _UNIT.sub("\u00a0", value)


def _markdown_escape(value: Any) -> Any:
    """Keep a value from being read as HTML or as Markdown; what a template made itself stays as it is."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    text = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_{}\[\]|#!])", r"\\\1", text)
    return Markup(" ".join(text.split()))
