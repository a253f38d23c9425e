"""TensorRT-RTX's real parser and compiler take what we export: SM86 as the nearest it has to Orin, SM120 to Thor."""

from __future__ import annotations

import onnx
import pytest
from small_models import random_patches, small_model

from spikeport_converters.fold import fold_batchnorm
from spikeport_converters.jetson import dense_graph
from spikeport_converters.ladder import NOT_RUN, RUNGS, batch_profile, climb
from spikeport_converters.precision import PRESETS
from spikeport_targets.card import load_card
from spikeport_targets.runtimes import tensorrt_rtx

needs_compiler = pytest.mark.skipif(not tensorrt_rtx.available(), reason=tensorrt_rtx.available().summary())
CARD = load_card("jetson-orin-nano")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Writes the small model's graph in a precision, once: its path and the shapes of an engine."""
    reference, root, done = fold_batchnorm(small_model()), tmp_path_factory.mktemp("graphs"), {}
    patches = random_patches(reference, 4)

    def write(precision):
        path = root / f"{precision}.onnx"
        if precision not in done:
            onnx.save(dense_graph(reference, patches, precision)[1], path)
            done[precision] = path, batch_profile(patches.shape, (1, 2, 4))
        return done[precision]

    return write


@needs_compiler
@pytest.mark.parametrize(("precision", "capability"), [("int8-fp16", "SM86"), ("fp8", "SM120"), ("nvfp4", "SM120")])
def test_it_parses_and_builds_an_engine(written, precision, capability):
    path, shapes = written(precision)
    built = tensorrt_rtx.compile_onnx(path, capability, shapes)
    assert built, built.summary()
    assert built.layers > 20


@needs_compiler
def test_the_ladder_is_climbed_to_its_last_rung(written):
    path, shapes = written("int8")
    found = climb(path, CARD, PRESETS["int8"], shapes=shapes)
    assert [rung.name for rung in found.rungs] == list(RUNGS)
    assert found
    assert [rung.verdict for rung in found.rungs].count(NOT_RUN) == 1, "parity, for which no reference was given"


def test_where_it_is_not_installed_the_rung_says_how_to_install_it(written, monkeypatch):
    monkeypatch.setattr(tensorrt_rtx, "find_spec", lambda name: None)
    path, shapes = written("int8")
    found = climb(path, CARD, PRESETS["int8"], shapes=shapes)
    assert found.rungs[-1].verdict == NOT_RUN
    assert "pip install spikeport[verify]" in found.rungs[-1].summary()
