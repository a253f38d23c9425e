"""Bundles as predictors: the hybrid model as a whole, what crosses between host and chip, and the deployed accuracy."""

import json
import shutil

import nir
import numpy as np
import pytest
from small_models import random_patches, small_model

import spikeport
from spikeport_converters.coexecution import coexecute, coexecution_rows
from spikeport_converters.contenders import contenders
from spikeport_converters.deployed import Deployed
from spikeport_converters.export import check, export
from spikeport_converters.fold import fold_batchnorm
from spikeport_converters.manifest import file_entries, manifest_bytes, read_manifest
from spikeport_converters.reference import run_reference
from spikeport_converters.traffic import traffic
from spikeport_errors import InputError, UsageError
from spikeport_profiles.report.inputs import Evaluation
from spikeport_targets.card import load_card
from spikeport_targets.runtime import get_runtime
from spikeport_toolkit.tasks.channel_prediction import example_pairs


@pytest.fixture(scope="module")
def whole(nano, tmp_path_factory):
    """The shipped nano for snnTorch, on 16 real channels with their clean targets. Not to be changed."""
    patches, target = example_pairs(nano.config, 16)
    folder = tmp_path_factory.mktemp("deployed") / "nano"
    return export(nano, load_card("snntorch"), "fp32", folder, patches, target, name="spikewfm-nano", trained=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    model = small_model()
    folder = tmp_path_factory.mktemp("deployed") / "small"
    return export(model, load_card("norse"), "fp32", folder, random_patches(model, 16), trained=True)


@pytest.fixture
def copy(small, tmp_path):
    return shutil.copytree(small.folder, tmp_path / "copy")


def rewrite(folder, **changes):
    """Write the manifest again, with its digest and hashes in order."""
    manifest = {**read_manifest(folder), **changes}
    (folder / "manifest.json").write_bytes(manifest_bytes({**manifest, "files": file_entries(folder)}))
    return read_manifest(folder)


def test_nano_with_attention_in_torch_and_islands_in_snntorch_spikes_as_spikingjelly_stepped(nano, whole):
    found = coexecute(whole.folder, whole.manifest, get_runtime("snntorch"), model=nano)
    assert (found.end_to_end, found.alone, found.spikes) == (0, 0, 7 * 4 * 1024 * 512)
    assert found.output_error <= 1e-5


def test_nano_with_attention_in_onnxruntime_differs_by_rounding_only(whole):
    found = coexecute(whole.folder, whole.manifest, get_runtime("snntorch"))
    assert found.alone / found.spikes <= 1e-6
    assert found.distance <= 1e-5
    assert abs(found.task_db) <= 0.001
    assert found.output_nmse_db < -100


def test_the_reference_agrees_with_the_golden_runs_of_spikingjelly(whole):
    wrong, total = 0, 0
    for entry in whole.manifest["hybrid"]["islands"]:
        golden = np.load(whole.folder / entry["golden"])
        got = get_runtime("reference").run(whole.folder / entry["file"], {"input": golden["input"]})
        wrong, total = wrong + int((got["spikes"] != golden["spikes"]).sum()), total + golden["spikes"].size
        assert np.abs(got["output"] - golden["output"]).max() <= 1e-5 * np.abs(golden["output"]).max()
    assert wrong / total <= 1e-6  # numpy's and torch's matrix products round differently; 0 of 14,680,064 here


def test_the_rows_stand_in_the_bundles_parity(whole):
    rows = {(row.name, row.kind): row for row in whole.parity.rows}
    for dense in ("torch", "onnxruntime"):
        assert rows[f"dense in {dense}, end to end", "spikes"].ok
        assert rows[f"dense in {dense}, layer by layer", "spikes"].limit == 1e-6
        assert rows[f"dense in {dense}, task NMSE change", "task"].value <= 0.001
    assert "dense in torch, end to end" in whole.summary()


def test_a_wrong_threshold_of_one_island_fails_the_whole_model(copy):
    path = copy / "spiking/island-00.nir"
    graph = nir.read(path)
    graph.nodes["lif"].v_threshold = graph.nodes["lif"].v_threshold * np.float32(0.97)
    nir.write(path, graph)
    rows = coexecution_rows(copy, rewrite(copy), get_runtime("norse"))
    failed = {row.name for row in rows if not row.ok}
    assert "dense in onnxruntime, layer by layer" in failed
    assert "dense in onnxruntime, distance of those from threshold" in failed


def test_a_simulator_in_an_environment_of_its_own_runs_the_whole_model_once(small):
    class Elsewhere(type(get_runtime("norse"))):
        environment = "norse"

    names = [row.name for row in coexecution_rows(small.folder, small.manifest, Elsewhere())]
    assert names == ["dense in onnxruntime, end to end"] * 2 + ["model"]


def test_any_runtime_that_the_user_names_takes_the_islands(small):
    golden = np.load(small.folder / "golden/model.npz")
    for islands in (None, "norse", "reference"):
        assert np.allclose(Deployed(small.folder, islands)(golden["input"]), golden["output"], atol=1e-4)
    with pytest.raises(InputError, match="profile"):
        Deployed(small.folder, "snntorch")(golden["input"])
    with pytest.raises(UsageError, match="runs no islands of the route nir"):
        Deployed(small.folder, "onnxruntime")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_dense_bundle_predicts_in_its_own_precision(bundles, nano, precision):
    patches = random_patches(nano, 3)
    want = run_reference(fold_batchnorm(nano), patches).output
    error = np.mean((Deployed(bundles[precision].folder)(patches) - want) ** 2) / np.mean(want**2)
    assert error < {"fp32": 1e-6, "fp16": 1e-3, "int8": 1e-1}[precision]
    assert Deployed(bundles[precision].folder).name.endswith(f"on jetson-orin-nano, {precision}")


def test_traffic_is_counted_on_the_golden_runs(whole):
    found = traffic(whole.folder, whole.manifest)
    spikes = [int(np.load(whole.folder / f"golden/island-0{k}.npz")["spikes"].sum()) for k in range(7)]
    assert [island.spikes for island in found.islands] == pytest.approx([count / 16 for count in spikes])
    first = found.islands[0]
    assert (first.features, first.currents, first.outputs) == (64 * 128, 64 * 512, 64 * 128)
    assert first.bytes["currents"] == 64 * 512 * 3
    assert first.bytes["features"] == 64 * 128 * 4
    assert first.bytes["spikes"] == pytest.approx(first.spikes * 9 / 8)
    assert first.bytes["graded"] == pytest.approx(first.events * (9 + 3) / 8)
    assert found.total("outputs") == 7 * 64 * 128 * 3


def test_traffic_stands_in_manifest_readme_and_check(whole):
    assert whole.manifest["traffic"] == json.loads(json.dumps(traffic(whole.folder, whole.manifest).to_dict()))
    assert whole.manifest["traffic"]["per"] == "predicted OFDM slot"
    assert "| all | | " in (whole.folder / "README.md").read_text()
    report = check(whole.folder)
    assert report
    assert "688.1 kB in, 172.0 kB out per predicted OFDM slot" in report.summary()
    assert report.to_dict()["traffic"]["total_bytes"]["currents"] == 7 * 64 * 512 * 3


def test_behind_a_layernorm_only_currents_cross(tmp_path):
    model = small_model(norm="ln")
    made = export(model, load_card("norse"), "fp32", tmp_path / "out", random_patches(model, 4), trained=True)
    found = traffic(made.folder, made.manifest)
    assert {island.features for island in found.islands} == {None}
    assert found.total("features") is None
    assert "W1 too" not in found.summary()


def test_evaluate_takes_bundles_and_sets_them_beside_their_float_model(whole, bundles, tmp_path):
    made = shutil.copytree(bundles["int8"].folder, tmp_path / "int8")
    rewrite(made, model={**bundles["int8"].manifest["model"], "name": "spikewfm-nano"})
    result = spikeport.evaluate(
        str(whole.folder), compare=[str(made)], islands="reference", snr="10", links=8, out=tmp_path
    )
    written = json.loads((tmp_path / "evaluation.json").read_text())
    Evaluation.model_validate(written)
    assert written["model"] == "spikewfm-nano"
    roles = {c.method: c.role for c in result.curves if c.role in ("model", "deployed")}
    assert roles == {
        "spikewfm-nano": "model",
        "spikewfm-nano on snntorch (islands in reference), fp32": "deployed",
        "spikewfm-nano on jetson-orin-nano, int8": "deployed",
    }
    nmse = {c.method: c.nmse_db[0] for c in result.curves if (c.regime, c.split) == ("R1", "unseen")}
    assert nmse["spikewfm-nano on snntorch (islands in reference), fp32"] == pytest.approx(
        nmse["spikewfm-nano"], abs=0.001
    )
    assert nmse["spikewfm-nano on jetson-orin-nano, int8"] == pytest.approx(nmse["spikewfm-nano"], abs=0.5)
    page = spikeport.report([tmp_path], out=tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert page is not None
    assert "spikewfm-nano on jetson-orin-nano, int8" in text


def test_a_python_file_that_a_manifest_names_is_never_run(copy, tmp_path):
    trap = tmp_path / "trap.py"
    trap.write_text("raise SystemExit('run')\n")
    rewrite(copy, model={**read_manifest(copy)["model"], "name": f"{trap}:make"})
    assert [c.role for c in contenders(str(copy))] == ["deployed"]
    assert check(copy)


def test_models_of_another_grid_are_refused(small):
    with pytest.raises(UsageError, match="another token grid"):
        contenders("spikewfm-nano", [str(small.folder)])


def test_a_bundle_that_is_not_as_written_is_refused(copy):
    (copy / "README.md").write_text("other")
    with pytest.raises(InputError, match=r"README\.md \(changed\)"):
        Deployed(copy)


def test_a_manifest_that_names_a_file_outside_its_bundle_is_refused(copy):
    manifest = read_manifest(copy)
    manifest["hybrid"]["segments"][0]["file"] = "../elsewhere.onnx"
    rewrite(copy, hybrid=manifest["hybrid"])
    with pytest.raises(InputError, match="no file of the bundle"):
        Deployed(copy)


def test_a_manifest_without_its_keys_is_one_input_error(copy):
    rewrite(copy, hybrid={})
    with pytest.raises(InputError, match="lacks what a bundle holds"):
        Deployed(copy)
