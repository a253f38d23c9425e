"""Trains the LSTM and the GRU baseline; writes their weights (half precision) into the toolkit. Takes minutes."""

from __future__ import annotations

import time
from pathlib import Path

from safetensors.torch import save_file

from spikeport_toolkit.baselines.recurrent import KINDS, train_recurrent

STEPS = 3000
FOLDER = Path(__file__).parent.parent / "toolkit" / "spikeport_toolkit" / "baselines" / "weights"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for kind in KINDS:
        start = time.process_time()
        network = train_recurrent(kind, steps=STEPS)
        weights = {name: value.half().contiguous() for name, value in network.state_dict().items()}
        save_file(weights, FOLDER / f"{kind}.safetensors")
        (FOLDER / f"{kind}.safetensors").chmod(0o644)
        print(f"{kind}: {sum(v.numel() for v in weights.values()):,} weights, {time.process_time() - start:.0f} CPU-s")


if __name__ == "__main__":
    main()
