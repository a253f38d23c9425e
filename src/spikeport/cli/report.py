"""`spikeport report`: one page over run folders."""

from __future__ import annotations

from pathlib import Path

from .output import DEFAULTS, Common, show


def report(*folder: Path, out: Path | None = None, title: str | None = None, common: Common = DEFAULTS) -> None:
    """Write one self-contained HTML page, its JSON, Markdown and CSV over run folders.

    Parameters
    ----------
    folder
        Run folders: evaluation.json, profile.json, sweep.json, and bundles and measured.json in them.
    out
        Where to write; default: the first run folder.
    title
        Title of the page.
    """
    from spikeport import api
    from spikeport_errors import UsageError

    if not folder:
        raise UsageError("name at least one run folder, as `spikeport demo` or `spikeport profile --out` write them")
    show(api.report(folder, out=out or folder[0], title=title), common)
