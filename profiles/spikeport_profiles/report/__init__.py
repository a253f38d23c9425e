"""One report of runs: JSON as the truth, a self-contained HTML page, Markdown and CSV."""

from .figures import summary_figure
from .write import Report, report

__all__ = ["Report", "report", "summary_figure"]
