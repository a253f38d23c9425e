"""The device path to its last step before the hardware: TensorRT and CUDA are stand-ins that hold every call.

Their figures are those of onnxruntime on this machine and say nothing about a GPU; what is tested is what is called, in
which order, with which arguments, and what is written.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jetson_root as fake
import numpy as np
import pytest
import tensorrt_standin as standin
from test_run_dense import python_3_10

HERE = Path(__file__).parent
FAST = ("--idle-seconds", "0.02", "--load-seconds", "0.02")
VERSIONS = ("10.3.0", "10.16", "11.1")


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture
def device(bundles, tmp_path, monkeypatch):
    """Copies of two bundles on a fake Jetson, and `run(version, *arguments)` of their run.py with the stand-ins."""
    for precision in ("fp16", "int8"):
        shutil.copytree(bundles[precision].folder, tmp_path / precision)
    root = fake.jetson(tmp_path / "root")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def run(version: str, *arguments: str, refuse_capture: bool = False, bundle: str = "fp16"):
        library, log = standin.CudaLibrary(refuse_capture), []
        monkeypatch.setitem(sys.modules, "tensorrt", standin.tensorrt_module(version, library, log))
        monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
        spec = importlib.util.spec_from_file_location("bundle_run", tmp_path / bundle / "run.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        engine = sys.modules["runner.engine"]
        for name, value in (("WARM_UP_S", 0.0), ("BLOCK_S", 0.0), ("LEAST_RUNS", 1)):
            monkeypatch.setattr(engine, name, value)
        monkeypatch.setattr(sys.modules["runner.measure"], "ROUNDS", 2)
        monkeypatch.setattr(sys, "argv", ["run.py", "--runtime", "tensorrt", "--root", str(root), *arguments])
        return module.main(), library, log

    return run


def record(folder: Path, name: str = "fp16") -> dict:
    return json.loads((folder / f"{name}.measured.json").read_text())


def test_an_engine_is_built_once_for_this_device_and_version_and_verified(device, version, tmp_path, capsys):
    code, library, log = device(version)
    assert code == 0, capsys.readouterr()
    said = capsys.readouterr().out
    assert "ok: output NMSE" in said
    assert "of the spikes differ" in said
    flags = [value for what, value in log if what == "flags"]
    assert flags == ([1 << 1] * 2 if version.startswith("10") else [0, 0])
    assert dict(log)["builder_optimization_level"] == 4
    plain, tapped = (value for what, value in log if what == "taps")
    assert (len(plain), len(tapped)) == (0, 7)
    engines = sorted(path.name for path in tmp_path.glob("*.engine"))
    assert len(engines) == 2
    assert all("nvidia-jetson-orin-nano" in name and f"sm87.trt{version.split('.')[0]}." in name for name in engines)
    assert library.memory == {}, "device memory is not given back"
    _, _, again = device(version)
    assert again == [], "built a second time"


def test_an_engine_of_another_graph_or_version_is_not_taken(device, tmp_path):
    device("10.3.0", "--no-spikes")
    _, _, log = device("10.16", "--no-spikes")
    assert log, "the engine of 10.3 was taken by 10.16"
    assert len(list(tmp_path.glob("*.engine"))) == 2


def test_the_timing_cache_is_kept_and_one_of_another_device_is_replaced(device, tmp_path):
    device("10.3.0", "--no-spikes")
    (cache,) = tmp_path.glob("*.timing-cache")
    assert cache.read_bytes().startswith(b"timings")
    cache.write_bytes(b"of another device")
    for engine in tmp_path.glob("*.engine"):
        engine.unlink()
    _, _, log = device("10.3.0", "--no-spikes")
    assert [value for what, value in log if what == "timing cache"] == [b"of another device", b""]


def test_a_measurement_says_latency_with_and_without_a_graph_power_and_where(device, version, tmp_path):
    code, library, _ = device(version, "--measure", *FAST)
    found = record(tmp_path)
    assert code == 0
    assert (found["schema"], found["kind"], found["precision"]) == ("spikeport.measured/1", "measured", "fp16")
    assert [(row["batch"], row["graph"]) for row in found["timing"]] == [(1, True), (1, False), (8, True), (8, False)]
    for row in found["timing"]:
        took = row["latency_s"]
        assert 0 < took["least"] <= took["p10"] <= took["median"] <= took["p90"] <= took["p99"]
        assert took["runs"] == 2
    assert found["latency_s"] == found["timing"][0]["latency_s"]["median"]
    assert library.replays > 0
    one, eight = found["power"]
    assert (one["source"], one["total_rails"], one["batch"], eight["batch"]) == ("hwmon", ["VDD_IN"], 1, 8)
    assert one["load_w"]["VDD_IN"] == pytest.approx(8.0)
    assert found["energy_j"] == pytest.approx(8.0 * one["load_s"] / one["inferences"])
    assert one["energy_above_idle_j"] == pytest.approx(0.0)
    assert eight["inferences"] % 8 == 0
    assert found["device"]["power_mode"]["name"] == "MAXN_SUPER"
    assert found["device"]["cuda"]["major"] == 8
    assert found["verification"]["ok"]
    assert found["verification"]["spike_mismatch"] <= found["verification"]["spike_limit"]
    assert found["warnings"] == []
    assert library.memory == {}
    assert library.graphs == {}


def test_a_graph_that_cuda_does_not_capture_is_a_stated_reason_and_not_an_end(device, tmp_path):
    code, library, _ = device("10.3.0", "--measure", "--no-spikes", *FAST, refuse_capture=True)
    found = record(tmp_path)
    assert code == 0
    assert found["cuda_graph"] is False
    assert [row["graph"] for row in found["timing"]] == [False, False]
    assert found["latency_s"] == found["timing"][0]["latency_s"]["median"]
    assert any("no CUDA graph: cudaStreamEndCapture" in warning for warning in found["warnings"])
    assert library.replays == 0


def test_clocks_that_wander_and_missing_sensors_are_warned_of(device, tmp_path):
    fake.jetson(tmp_path / "root", pinned=False)
    shutil.rmtree(tmp_path / "root/sys/bus")
    device("10.3.0", "--measure", "--no-spikes", *FAST)
    found = record(tmp_path)
    assert found["energy_j"] is None
    assert found["power"] == [None, None]
    assert "jetson_clocks is off" in found["warnings"][0]
    assert "neither INA sensors nor tegrastats" in found["warnings"][1]


def test_power_comes_from_tegrastats_where_sysfs_has_no_sensors(device, tmp_path):
    shutil.rmtree(tmp_path / "root/sys/bus")
    fake.program(tmp_path / "root", "tegrastats", f"echo '{fake.ORIN_NANO_JETPACK_6}'\nexec sleep 60")
    device("10.3.0", "--measure", "--no-spikes", *FAST)
    one = record(tmp_path)["power"][0]
    assert (one["source"], one["load_w"]["VDD_IN"]) == ("tegrastats", pytest.approx(6.626))


def test_two_bundles_take_turns_and_int8_is_kept_only_where_it_pays(device, tmp_path, capsys):
    code, _, _ = device("10.3.0", "--compare", str(tmp_path / "int8"), "--no-spikes", *FAST)
    said = capsys.readouterr().out
    assert code == 0
    assert {record(tmp_path, name)["precision"] for name in ("fp16", "int8")} == {"fp16", "int8"}
    ratio = record(tmp_path, "fp16")["latency_s"] / record(tmp_path, "int8")["latency_s"]
    assert f"verdict: keep {'int8' if ratio >= 1.02 else 'fp16'}" in said


@pytest.mark.parametrize(("ratio", "kept"), [(1.019, "keep fp16"), (1.021, "keep int8"), (0.7, "keep fp16")])
def test_the_verdict_needs_two_per_cent(device, tmp_path, ratio, kept):
    device("10.3.0", "--measure", "--no-spikes", *FAST)
    half = record(tmp_path)
    small = {**half, "precision": "int8", "kind_of_arithmetic": "int8", "latency_s": half["latency_s"] / ratio}
    for pair in ([half, small], [small, half]):
        assert kept in sys.modules["runner.measure"].compare(pair)


def test_outputs_that_differ_are_exit_code_1_and_still_recorded(device, tmp_path, capsys):
    path = tmp_path / "fp16/golden/model.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **{**arrays, "output": arrays["output"] + 1})
    manifest = json.loads((tmp_path / "fp16/manifest.json").read_text())
    manifest["model"]["trained"] = True
    (tmp_path / "fp16/manifest.json").write_text(json.dumps(manifest))
    code, _, _ = device("10.3.0", "--measure", "--no-spikes", *FAST)
    assert code == 1
    assert "FAILED: output NMSE" in capsys.readouterr().out
    assert record(tmp_path)["verification"]["ok"] is False


def test_a_tensorrt_before_10_3_is_refused(device, monkeypatch, capsys):
    monkeypatch.setitem(standin.BINDINGS, "8.6", standin.BINDINGS["10.3.0"])
    assert device("8.6")[0] == 2
    assert "too old" in capsys.readouterr().err


def test_a_call_that_is_not_published_cannot_be_stood_in_for():
    class IExecutionContext:
        def execute_async_v4(self, stream):
            pass

    with pytest.raises(AssertionError, match="not published"):
        standin._require_published(IExecutionContext, standin.BINDINGS["11.1"]["classes"]["IExecutionContext"])


def test_what_tensorrt_11_took_away_is_not_used_anywhere():
    sources = (HERE.parents[1] / "converters/spikeport_converters/runner/engine.py").read_text()
    ten, eleven = (standin.BINDINGS[each]["classes"] for each in ("10.3.0", "11.1"))
    gone = {n for c in ten for n in set(ten[c]["methods"]) - set(eleven.get(c, {"methods": ()})["methods"])}
    assert "create_execution_context_without_device_memory" in gone
    assert [name for name in gone if f".{name}(" in sources] == []


def test_the_device_path_runs_in_python_3_10(bundles, tmp_path):
    program = python_3_10("numpy", "onnxruntime")
    folder, root = shutil.copytree(bundles["fp16"].folder, tmp_path / "fp16"), fake.jetson(tmp_path / "root")
    driver = (
        f"import sys, runpy; sys.path.insert(0, {str(HERE)!r}); sys.dont_write_bytecode = True\n"
        "import tensorrt_standin; tensorrt_standin.install('10.3.0')\n"
        f"sys.path.insert(0, {str(folder)!r}); import runner.engine as e\n"
        "e.WARM_UP_S = e.BLOCK_S = 0.0; e.LEAST_RUNS = 1\n"
        f"sys.argv = ['run.py', '--measure', '--no-spikes', '--root', {str(root)!r}]\n"
        "sys.argv += ['--idle-seconds', '0.1', '--load-seconds', '0.1']\n"
        f"runpy.run_path({str(folder / 'run.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([program, "-c", driver], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert record(tmp_path)["verification"]["ok"]


def test_the_real_parser_of_tensorrt_rtx_takes_the_calls_and_has_the_tapped_tensors(bundles):
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt-rtx is not installed: pip install spikeport[verify]")
    folder = bundles["fp16"].folder
    driver = (
        f"import json, sys; sys.path.insert(0, {str(folder)!r}); sys.dont_write_bytecode = True\n"
        "import tensorrt_rtx as trt, runner.engine as e\n"
        f"dense = json.load(open({str(folder / 'manifest.json')!r}))['dense']\n"
        "n = e.TensorRTNetwork.__new__(e.TensorRTNetwork); n.log = trt.Logger(trt.Logger.ERROR)\n"
        "n.taps = tuple(layer['count'] for layer in dense['layers'])\n"
        "network = trt.Builder(n.log).create_network(0); parser = trt.OnnxParser(network, n.log)\n"
        f"assert parser.parse_from_file({str(folder)!r} + '/' + dense['model']); n._mark(network)\n"
        "print(network.num_outputs)"
    )
    done = subprocess.run([sys.executable, "-c", driver], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "8"
