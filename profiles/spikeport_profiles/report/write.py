"""`report`: gather, build the document, write the four files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spikeport_errors import InputError
from spikeport_toolkit.files import write_json, write_text

from .document import report_document
from .gather import gather
from .render import html_text, markdown_text
from .table import csv_text


@dataclass(frozen=True)
class Report:
    """Where the four files of a report lie."""

    html: Path
    json: Path
    markdown: Path
    csv: Path

    def summary(self) -> str:
        """One line."""
        return f"report: {self.html} (data: {self.json.name}, text: {self.markdown.name}, table: {self.csv.name})"

    def to_dict(self) -> dict[str, str]:
        """Paths as text."""
        return {name: str(file) for name, file in vars(self).items()}


def report(dirs: Sequence[Path], out: Path, *, title: str | None = None) -> Report:
    """Report on run folders, several side by side.

    Args:
        dirs: run folders; each holds evaluation.json, profile.json, sweep.json or bundle folders.
        out: folder for report.html, report.json, report.md and report.csv; made if absent.
        title: the page's title; names the models if not given.

    Raises:
        InputError: a folder or file is missing, empty or broken (the message names it); nothing is written then.
    """
    runs = gather(dirs)
    document = report_document(runs, title)
    html, markdown, table = html_text(document), markdown_text(document), csv_text(runs)
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a folder for the report")
    made = Report(out / "report.html", out / "report.json", out / "report.md", out / "report.csv")
    write_json(made.json, document)
    write_text(made.html, html)
    write_text(made.markdown, markdown)
    write_text(made.csv, table)
    return made
