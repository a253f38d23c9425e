"""A dense bundle's own runner: verifies output and spikes, on any input names, in any of the Pythons it promises."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from spikeport_converters.export import check
from spikeport_converters.jetson import RUNNER

HERE = Path(__file__).parent
SOURCES = [
    Path(str(importlib.util.find_spec("spikeport_converters").origin)).parent / "runner" / name for name in RUNNER
]


def python_3_10(*modules: str) -> str:
    """A Python 3.10 that has these modules; skips where there is none."""
    own = os.environ.get("SPIKEPORT_PYTHON310")
    for program in filter(
        None, (own, shutil.which("python3.10"), *map(str, Path.home().glob(".pyenv/versions/3.10*/bin/python")))
    ):
        code = f"import sys{''.join(f', {m}' for m in modules)}; assert sys.version_info[:2] == (3, 10)"
        if subprocess.run([program, "-c", code], capture_output=True, check=False).returncode == 0:
            return program
    pytest.skip(f"no Python 3.10 with {', '.join(modules) or 'its standard library'} (SPIKEPORT_PYTHON310 names one)")


def run(folder: Path, *arguments: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    command = [python, str(folder / "run.py"), "--runtime", "onnxruntime", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_every_file_of_the_runner_compiles_in_python_3_10(tmp_path):
    program = python_3_10()
    for source in SOURCES:
        copied = shutil.copy(source, tmp_path)
        done = subprocess.run([program, "-m", "py_compile", copied], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_the_runner_is_python_3_10_and_needs_numpy_and_one_runtime(source):
    tree = ast.parse(source.read_text(), feature_version=(3, 10))
    imports = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    froms = {str(n.module).split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    outside = (imports | froms) - set(sys.stdlib_module_names)
    assert outside <= {"numpy", "onnxruntime", "tensorrt", "runner"}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_runner_compares_output_and_spikes_with_the_golden_ones(bundles, precision):
    done = run(bundles[precision].folder)
    assert done.returncode == 0, done.stderr
    output, spikes, took = done.stdout.splitlines()
    assert output.startswith("ok: output NMSE")
    assert "of the spikes differ" in spikes
    rate = next(row.value for row in bundles[precision].parity.rows if row.name == "spikes end to end")
    assert float(spikes.split()[1]) == pytest.approx(rate, rel=0.05, abs=1e-9)
    assert "ms for 1 sample" in took


def test_a_run_leaves_the_bundle_as_it_was(bundles, tmp_path):
    folder = shutil.copytree(bundles["fp16"].folder, tmp_path / "mine")
    assert run(folder).returncode == 0
    assert check(folder)


def test_the_runner_runs_in_python_3_10(bundles):
    done = run(bundles["fp16"].folder, python=python_3_10("numpy", "onnxruntime"))
    assert done.returncode == 0, done.stderr
    assert "of the spikes differ" in done.stdout


def test_a_changed_graph_is_refused_before_it_runs(bundles, tmp_path):
    folder = shutil.copytree(bundles["fp32"].folder, tmp_path / "mine")
    with (folder / "dense/model.onnx").open("ab") as file:
        file.write(b"\0")
    done = run(folder)
    assert done.returncode == 2
    assert "is not the file that was exported" in done.stderr


@pytest.mark.parametrize("text", ["", "{", "[]", '{"dense": 1}', '{"dense": {"model": "x"}}'])
def test_a_broken_manifest_is_one_message(bundles, tmp_path, text):
    folder = shutil.copytree(bundles["fp32"].folder, tmp_path / "mine")
    (folder / "manifest.json").write_text(text)
    done = run(folder)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_further_outputs_are_appended_as_protobuf_merges_them(bundles):
    code = (bundles["fp32"].folder / "run.py").read_text()
    assert "def with_outputs" in code
    sys.path.insert(0, str(bundles["fp32"].folder))
    try:
        spec = importlib.util.spec_from_file_location("bundle_run", bundles["fp32"].folder / "run.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(bundles["fp32"].folder))
    data = (bundles["fp32"].folder / "dense/model.onnx").read_bytes()
    name = "a" * 300
    model = onnx.load_from_string(module.with_outputs(data, [name, "b"]))
    assert [each.name for each in model.graph.output] == ["prediction", name, "b"]
    assert module.with_outputs(data, []) == data


def test_trtexec_lines_are_of_both_generations(bundles):
    done = run(bundles["int8"].folder, "--trtexec")
    ten, eleven = (line for line in done.stdout.splitlines() if not line.startswith("#"))
    assert "--stronglyTyped" in ten
    assert ten.replace("--stronglyTyped ", "") == eleven
    for flag in ("--fp16", "--int8", "--best", "--calib"):
        assert flag not in done.stdout
    assert "--optShapes=patches:8x64x336" in eleven


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--measure",), "run them on the device"),
        (("--compare", "nowhere"), "is no bundle"),
        (("--channel", "in.npy"), "go together"),
    ],
)
def test_what_cannot_be_done_here_is_said_in_one_line(bundles, arguments, message):
    done = run(bundles["fp16"].folder, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_without_tensorrt_the_device_path_says_where_it_comes_from(bundles):
    if importlib.util.find_spec("tensorrt"):
        pytest.skip("tensorrt is installed here")
    command = [sys.executable, str(bundles["fp16"].folder / "run.py"), "--runtime", "tensorrt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "libcudart.so was not found" in done.stderr or "JetPack" in done.stderr


def test_the_manifest_names_the_weights_so_that_a_measurement_can_be_held_against_them(bundles, nano):
    from spikeport_toolkit.models.identity import model_sha256

    manifest = json.loads((bundles["int8"].folder / "manifest.json").read_text())
    assert manifest["model"]["sha256"] == model_sha256(nano)
    assert np.unique([bundles[p].manifest["model"]["sha256"] for p in bundles]).size == 1
