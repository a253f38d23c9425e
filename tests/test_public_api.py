"""The export list, the error tree and the import rules."""

import subprocess
import sys
from pathlib import Path

import spikeport
import spikeport_errors

ROOT = Path(__file__).parent.parent


def test_the_export_list_is_what_it_says() -> None:
    assert spikeport.__all__ == sorted(spikeport.__all__, key=lambda name: (name.islower(), name))
    for name in spikeport.__all__:
        assert getattr(spikeport, name) is not None


def test_every_error_has_an_exit_code_and_stands_in_the_tree() -> None:
    for name in spikeport_errors.__all__:
        item = getattr(spikeport_errors, name)
        if isinstance(item, type):
            assert issubclass(item, spikeport.SpikeportError)
            assert item.exit_code == (1 if name == "CheckFailed" else 2)
            assert name in str(spikeport_errors.__doc__)


def test_imports_go_one_way() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports"))]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout


def test_import_is_light() -> None:
    code = "import spikeport, sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout == "False\n"
