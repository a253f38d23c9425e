"""A Loihi island as HDF5 in the network-exchange (netx) layout of lava-dl, which netx loads and runs.

netx holds: LIF neurons with one threshold and one decay per layer, 8-bit weights with an exponent that it derives
itself, a bias mantissa per neuron with the exponent 6, and binary spikes. It does not hold, and the group `spikeport`
of the same file does: the steps of a token, the scale from a current to a mantissa, the offsets of an integer neuron's
slots, and what the host does with an accumulator (decode, and the bias of fc2: as a bias it would be added in every
step, also in the one that the synapses wait). The currents change with every token: they are set as bias mantissas of
layer 0, as netx wants it for an input layer. Graded payloads of a LIF neuron have no place in it: an integer neuron is
written as binary slots.
"""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np

from spikeport_targets.runtimes.loihi_runner import VTH_HIGH, NetIsland

NO_CURRENT_MEMORY = 4096


def write_net(path: Path, island: NetIsland) -> None:
    """Write `island` to `path` (.net): layer 0 its neurons, layer 1 fc2 onto neurons that only add up."""
    outputs, neurons = island.weight.shape
    buffer = io.BytesIO()  # HDF5 in memory: libhdf5 crashes where a disk is full
    with h5py.File(buffer, "w") as file:
        _layer(file, 0, "input", neurons, island.vth, island.dv)
        file["layer/0/weight"], file["layer/0/bias"] = 1, 0
        _layer(file, 1, "dense", outputs, VTH_HIGH, 0)
        file["layer/1/inFeatures"], file["layer/1/outFeatures"] = neurons, outputs
        file["layer/1/weight"] = island.weight.astype(np.int32)
        for name in ("steps", "offsets", "scale", "decode", "shift"):
            file[f"spikeport/{name}"] = getattr(island, name)
    path.write_bytes(buffer.getvalue())


def _layer(file: h5py.File, index: int, kind: str, size: int, vth: int, dv: int) -> None:
    place = f"layer/{index}"
    file[f"{place}/type"] = kind
    file[f"{place}/shape"] = np.array([size])
    file[f"{place}/neuron/type"] = "CUBA"
    values = {"iDecay": NO_CURRENT_MEMORY, "vDecay": dv, "vThMant": vth, "refDelay": 1, "gradedSpike": 0}
    for name, value in values.items():
        file[f"{place}/neuron/{name}"] = value
