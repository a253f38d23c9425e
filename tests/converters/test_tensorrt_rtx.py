"""TensorRT-RTX's real parser and compiler take what we export: SM86 as the nearest it has to Orin, SM120 to Thor."""

from pathlib import Path

import pytest

from spikeport_converters.bundle import Bundle

trt = pytest.importorskip("tensorrt_rtx", reason="needs the [verify] extra (tensorrt-rtx-cu12), which CI installs")


@pytest.mark.parametrize("capability", ["SM86", "SM120"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_it_parses_and_builds_an_engine(bundles: dict[str, Bundle], precision: str, capability: str) -> None:
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    model = Path(bundles[precision].folder) / "dense" / "model.onnx"
    parsed = parser.parse_from_file(str(model))
    assert parsed, [parser.get_error(i).desc() for i in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    profile = builder.create_optimization_profile()
    profile.set_shape("patches", (1, 64, 336), (8, 64, 336), (32, 64, 336))
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is not None
