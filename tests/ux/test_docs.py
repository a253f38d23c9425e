"""Documentation is executed: blocks marked `file=` are written to one folder, and the Python ones are run in order."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent.parent / "docs"
BLOCK = re.compile(r"^```(\w+) file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXECUTED = sorted(page for page in DOCS.glob("*.md") if BLOCK.search(page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", EXECUTED, ids=lambda page: page.stem)
def test_the_page_runs(page: Path, tmp_path: Path) -> None:
    for language, name, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        if language == "python":
            result = subprocess.run([sys.executable, name], cwd=tmp_path, capture_output=True, text=True, timeout=120)
            assert result.returncode == 0, f"{page.name}, {name}:\n{result.stderr}"


def test_the_guides_are_among_them() -> None:
    assert {"add-a-target", "add-an-operator"} <= {page.stem for page in EXECUTED}
