"""From the document to HTML and Markdown text; both templates escape every value."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from . import numbers
from .accuracy import snr_text
from .cite import Sources
from .figures import page_figures
from .reading import READING_GUIDE
from .sparsity import COUNTS

_COUNT_LABELS = dict(zip(COUNTS, (
    "spikes", "SynOps", "MACs executed", "MACs algebraic", "neuron updates", "weight bytes", "activation bytes",
    "state bytes",
), strict=True))  # fmt: skip
_PARTS = {
    "accuracy": "Accuracy",
    "table": "Task",
    "budget": "Budget",
    "sparsity": "Spikes",
    "detail": "Layer by layer",
    "measured": "Measured on a device",
    "cost": "Energy and latency per target",
    "layers": "Counts of the layers",
    "bundles": "Bundles",
}
_TEMPLATES = {"table": "task", "sparsity": "spikes"}
_UNIT = re.compile(r"(?<=\d) (?=(?:%|dB|[fpnµmkMG]?[JsWB]|[kMG]|GHz|ms)(?:\W|$))")


def html_text(document: dict[str, Any]) -> str:
    """One self-contained page: inline style, SVG and one script of ours, which alone may run; nothing fetched."""
    environment = _environment()
    environment.finalize = _keep_units
    style, script = (environment.loader.get_source(environment, name)[0] for name in ("style.css", "tip.js"))  # type: ignore[union-attr]
    digest = b64encode(sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        report=document, figures=page_figures(document), style=Markup(style), script=Markup(script),
        script_hash=f"sha256-{digest}", sources=Sources(),
    )  # fmt: skip


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
        "score": numbers.score_text,
        "score_range": numbers.score_range_text,
        "parts": _parts,
        "snrs": lambda curves: sorted({snr for curve in curves for snr in curve["snr_db"]}),
    }
    environment.globals["count_labels"] = _COUNT_LABELS
    return environment


def _parts(run: dict[str, Any]) -> list[tuple[str, str]]:
    """Template and title of every section for which the run holds something."""
    held = {key: bool(run[key]) for key in _PARTS} | {"cost": bool(run["cost"] and run["cost"]["targets"])}
    return [(_TEMPLATES.get(key, key), title) for key, title in _PARTS.items() if held[key]]


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
