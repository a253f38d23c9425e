"""`report`: gather, build the document, write the three files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spikeport_errors import InputError
from spikeport_toolkit.files import write_json, write_text

from .document import report_document
from .gather import gather
from .render import html_text, markdown_text


@dataclass(frozen=True)
class Report:
    """Where the three files of a report lie."""

    html: Path
    json: Path
    markdown: Path

    def summary(self) -> str:
        """One line."""
        return f"report: {self.html} (data: {self.json.name}, text: {self.markdown.name})"

    def to_dict(self) -> dict[str, str]:
        """Paths as text."""
        return {"html": str(self.html), "json": str(self.json), "markdown": str(self.markdown)}


def report(dirs: Sequence[Path], out: Path, *, title: str | None = None) -> Report:
    """Report on run folders, several side by side.

    Args:
        dirs: run folders; each holds evaluation.json, profile.json or bundle folders.
        out: folder for report.html, report.json and report.md; made if absent.
        title: the page's title; names the models if not given.

    Raises:
        InputError: a folder or file is missing, empty or broken (the message names it); nothing is written then.
    """
    document = report_document(gather(dirs), title)
    html, markdown = html_text(document), markdown_text(document)
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a folder for the report")
    made = Report(out / "report.html", out / "report.json", out / "report.md")
    write_json(made.json, document)
    write_text(made.html, html)
    write_text(made.markdown, markdown)
    return made
