"""Time, peak memory and layer-by-layer equality of exporting spikewfm-80m in fp32.

    python benchmarks/export_80m.py [--model spikewfm-80m] [--out DIR]

Prints one JSON object. `onnx_s` is the graph alone (fold time, export, legality); `export_s` the whole bundle with
golden I/O and parity. Peak memory is this process's, from getrusage.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import torch

from spikeport_converters.attention import make_attention_explicit
from spikeport_converters.export import check, export
from spikeport_converters.fold import fold_batchnorm, fold_time
from spikeport_converters.onnx_graph import onnx_from_model
from spikeport_converters.onnx_legal import onnx_legal
from spikeport_targets.card import load_card
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.tasks.channel_prediction import example_patches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="spikewfm-80m")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = load_model(options.model)
    patches = example_patches(model.config, 2)

    started = time.perf_counter()
    graph = onnx_legal(
        onnx_from_model(make_attention_explicit(fold_time(fold_batchnorm(model))), torch.from_numpy(patches))
    )
    onnx_seconds = time.perf_counter() - started
    size = graph.ByteSize()
    del graph
    onnx_peak = peak_mb()

    with tempfile.TemporaryDirectory() as place:
        folder = options.out or Path(place) / "bundle"
        started = time.perf_counter()
        bundle = export(model, load_card("jetson-orin-nano"), "fp32", folder, patches)
        export_seconds = time.perf_counter() - started
        started = time.perf_counter()
        fine = bool(check(folder))
        check_seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "model": options.model,
                "threads": torch.get_num_threads(),
                "onnx_s": round(onnx_seconds, 1),
                "onnx_mb": round(size / 1e6, 1),
                "onnx_peak_mb": onnx_peak,
                "export_s": round(export_seconds, 1),
                "check_s": round(check_seconds, 1),
                "peak_mb": peak_mb(),
                "check_ok": fine,
                "parity": bundle.parity.to_dict(),
            },
            indent=2,
        )
    )


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
