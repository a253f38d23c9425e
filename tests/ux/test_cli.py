"""The command line as a user meets it: quick help, clear errors, exit codes, JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spikeport.cli.app import COMMANDS, run


def spikeport(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    command = [sys.executable, "-c", "from spikeport.cli import main; main()", *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)


def test_help_does_not_import_torch() -> None:
    code = "import sys; from spikeport.cli.app import run; run(['--help']); print(sorted(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    loaded = result.stdout.splitlines()[-1]
    for heavy in ("'torch'", "'numpy'", "'onnx'", "'matplotlib'", "'spikingjelly'"):
        assert heavy not in loaded
    for name in COMMANDS:
        assert name in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert "Usage: spikeport" in capsys.readouterr().out


def test_models_json_lists_exact_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    expected = {"nano": 889_424, "3.5m": 3_526_096, "20m": 20_174_416, "80m": 79_318_096}
    assert {size: rows[f"spikewfm-{size}"]["parameters"] for size in expected} == expected
    assert rows["spikewfm-nano"]["head_parameters"] == 658_000


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("frobnicate", "unknown command 'frobnicate'"),
        ("models --jsn", "--jsn"),
        ("export spikewfm-nano --target jetson-orin-nano", "out"),
        ("export spikewfm-nan --target jetson-orin-nano --out {tmp}/b", "did you mean 'spikewfm-nano'"),
        ("export spikewfm-nano --target jetson-orin-nanoo --out {tmp}/b", "did you mean 'jetson-orin-nano'"),
        ("export spikewfm-nano --target jetson-orin-nano --precision fp8 --out {tmp}/b", "FP8 needs 8.9"),
        ("export spikewfm-nano --target cmos45 --out {tmp}/b", "cmos45"),
        ("export spikewfm-nano-ilif --target snntorch --out {tmp}/b", "snntorch"),
        ("export {tmp}/missing --target jetson-orin-nano --out {tmp}/b", "missing"),
        ("export {tmp}/missing.py:make --target jetson-orin-nano --out {tmp}/b", "missing.py"),
        ("check {tmp}/missing", "missing"),
        ("report {tmp}/missing", "missing"),
        ("report", "name at least one run folder"),
        ("train nope", "unknown recipe 'nope'"),
        ("evaluate spikewfm-nano --snr 1:2", "--snr"),
        ("evaluate spikewfm-nano --snr 5 --links 100000", "--links"),
        ("evaluate spikewfm-nano --task loss", "unknown task 'loss'"),
        ("evaluate spikewfm-nano --data {tmp}/missing", "missing"),
        ("profile spikewfm-nano --target lohi2", "did you mean 'loihi2'"),
        ("profile spikewfm-nano --target loihi2 --samples 0", "--samples"),
        ("data make nope --out {tmp}/b", "unknown data recipe 'nope'"),
        ("data info {tmp}/missing", "missing"),
        ("targets show nope", "unknown target 'nope'"),
    ],
)
def test_bad_usage_is_one_clear_line_and_exit_2(
    line: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(line.format(tmp=tmp_path).split())
    captured = capsys.readouterr()
    assert code == 2, captured.err
    assert says in captured.err
    assert captured.err.splitlines()[-1].startswith("error: "), "progress may come before it, nothing after"
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == [], "nothing half-written"


def test_a_truncated_checkpoint_and_nan_weights_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from spikeport_toolkit.models.checkpoint import load_checkpoint, save_checkpoint
    from spikeport_toolkit.models.load import SHIPPED

    model = load_checkpoint(SHIPPED / "spikewfm-nano")
    save_checkpoint(model, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    model.backbone.embed.weight.data[:] = float("nan")
    save_checkpoint(model, tmp_path / "nan")
    for name, says in (("cut", "model.safetensors"), ("nan", "not finite")):
        assert run(["export", str(tmp_path / name), "--target", "jetson-orin-nano", "--out", str(tmp_path / "b")]) == 2
        assert says in capsys.readouterr().err
        assert not (tmp_path / "b").exists()


def test_plan_says_what_is_refused_and_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "spikewfm-nano", "--target", "jetson-orin-nano"]) == 0
    assert "rewritten" in capsys.readouterr().out
    assert run(["plan", "spikewfm-nano-ilif", "--target", "snntorch"]) == 2
    assert "refused" in capsys.readouterr().out


def test_output_is_plain_and_json_is_alone_on_stdout(tmp_path: Path) -> None:
    result = spikeport(
        "profile", "spikewfm-nano", "--target", "cmos45", "--samples", "2", "--out", str(tmp_path), "--json"
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["schema"] == "spikeport.profile/1"
    assert result.stderr == ""
    assert "\x1b[" not in spikeport("targets").stdout


def test_verbose_shows_the_traceback() -> None:
    result = spikeport("export", "spikewfm-nan", "--target", "norse", "--out", "b", "-v")
    assert "Traceback" in result.stderr
