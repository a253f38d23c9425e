"""Time, peak memory and layer-by-layer equality of exporting spikewfm-80m.

    python benchmarks/export_80m.py [--model spikewfm-80m] [--precision fp32|fp16|int8] [--out DIR]

Prints one JSON object. `export_s` is the whole bundle: graph, golden I/O, parity; `check_s` its parity again. Peak
memory is this process's, from getrusage. `imported_mb` is what the libraries take before a model is loaded,
`weights_mb` the size of the model's float32 parameters; `times_weights` is the peak above `imported_mb` over that, the
model itself included, `times_weights_in_all` the whole peak over it.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import torch

from spikeport_converters.export import check, export
from spikeport_targets.card import load_card
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.tasks.channel_prediction import example_patches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="spikewfm-80m")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "fp16", "int8"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    imported = peak_mb()
    model = load_model(options.model)
    patches = example_patches(model.config, 2)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())

    with tempfile.TemporaryDirectory() as place:
        folder = options.out or Path(place) / "bundle"
        started = time.perf_counter()
        bundle = export(model, load_card("jetson-orin-nano"), options.precision, folder, patches)
        export_seconds, export_peak = time.perf_counter() - started, peak_mb()
        started = time.perf_counter()
        fine = bool(check(folder))
        check_seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "model": options.model,
                "precision": options.precision,
                "weights_mb": round(weights / 1e6),
                "threads": torch.get_num_threads(),
                "imported_mb": imported,
                "export_s": round(export_seconds, 1),
                "check_s": round(check_seconds, 1),
                "export_peak_mb": export_peak,
                "check_peak_mb": peak_mb(),
                "times_weights": round((export_peak - imported) * 1024**2 / weights, 2),
                "times_weights_in_all": round(export_peak * 1024**2 / weights, 2),
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
