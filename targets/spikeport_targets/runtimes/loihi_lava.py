"""Run LIF neurons, dense synapses and whole islands in real Lava, fixed point, in the environment `lava`.

    python loihi_lava.py CASE.npz RESULT.npz [CASE.npz RESULT.npz ...]

It imports numpy and lava (for `kind` netx also lava-dl), nothing of spikeport. `kind` in the case says what to run:

    lif      activation [time, n], bias [n], vth, dv, du, bias_exp          ->  spikes [time, n], u [n], v [n]
    dense    weight [out, in], spikes [time, in], weight_bits, weight_exp,
             message_bits (0: binary)                                       ->  sums [time, out]
    island   weight [out, n], weight_exp, vth, dv, steps, mantissas [token, n]  ->  spikes [time, token, n],
             accumulators [token, out]
    netx     net (a file), steps, mantissas [token, n]                              ->  as island, from a .net file
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

ACCUMULATE = {"du": 4095, "dv": 0, "vth": 2**17 - 1}


def lif(case: Any) -> dict[str, Any]:
    """LIF neurons on a given activation."""
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source
    from lava.proc.lif.process import LIF

    steps, width = case["activation"].shape
    source, sink = Source(data=case["activation"].T), Sink(shape=(width,), buffer=steps)
    given = {name: int(case[name]) for name in ("vth", "dv", "du", "bias_exp")}
    neuron = LIF(shape=(width,), bias_mant=case["bias"], **given)
    source.s_out.connect(neuron.a_in)
    neuron.s_out.connect(sink.a_in)
    run(neuron, steps)
    result = {"spikes": sink.data.get().T, "u": neuron.u.get(), "v": neuron.v.get()}
    neuron.stop()
    return result


def dense(case: Any) -> dict[str, Any]:
    """Dense synapses on given spikes; what they give is one step late, which is undone here."""
    from lava.proc.dense.process import Dense
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source

    steps, outputs = len(case["spikes"]), len(case["weight"])
    padded = np.concatenate((case["spikes"].T, np.zeros((case["spikes"].shape[1], 1), int)), 1)
    source, sink = Source(data=padded), Sink(shape=(outputs,), buffer=steps + 1)
    synapse = Dense(
        weights=case["weight"],
        weight_exp=int(case["weight_exp"]),
        num_weight_bits=int(case["weight_bits"]),
        num_message_bits=int(case["message_bits"]),
    )
    source.s_out.connect(synapse.s_in)
    synapse.a_out.connect(sink.a_in)
    run(synapse, steps + 1)
    result = {"sums": sink.data.get().T[1:]}
    synapse.stop()
    return result


def island(case: Any) -> dict[str, Any]:
    """LIF neurons on bias currents, dense synapses, accumulators: token after token."""
    from lava.proc.dense.process import Dense
    from lava.proc.lif.process import LIF

    outputs, width = case["weight"].shape
    neuron = LIF(shape=(width,), du=4095, dv=int(case["dv"]), vth=int(case["vth"]), bias_mant=0, bias_exp=6)
    synapse = Dense(weights=case["weight"], weight_exp=int(case["weight_exp"]))
    total = LIF(shape=(outputs,), bias_mant=0, bias_exp=6, **ACCUMULATE)
    neuron.s_out.connect(synapse.s_in)
    synapse.a_out.connect(total.a_in)
    return tokens(neuron, total, case)


def netx(case: Any) -> dict[str, Any]:
    """The same from a .net file, by lava-dl's netx."""
    from lava.lib.dl.netx import hdf5

    network = hdf5.Network(net_config=str(case["net"]))
    first, last = network.layers
    return tokens(first.neuron, last.neuron, case)


def tokens(neuron: Any, total: Any, case: Any) -> dict[str, Any]:
    """Give each token's mantissas as biases for `steps` steps, and one silent step for the synapses' delay."""
    from lava.proc.io.sink import RingBuffer as Sink

    steps, mantissas = int(case["steps"]), case["mantissas"]
    width, silent = mantissas.shape[1], np.zeros(mantissas.shape[1], int)
    sink, accumulators = Sink(shape=(width,), buffer=len(mantissas) * (steps + 1)), []
    neuron.s_out.connect(sink.a_in)
    for k, mantissa in enumerate(mantissas):
        if k:
            neuron.bias_mant.set(mantissa)
        else:
            neuron.bias_mant.init = mantissa
        run(neuron, steps)
        neuron.bias_mant.set(silent)
        neuron.v.set(silent)
        run(neuron, 1)
        accumulators.append(total.v.get().astype(int) >> 6)
        total.v.set(np.zeros(len(accumulators[0]), int))
    spikes = sink.data.get().T.reshape(len(mantissas), steps + 1, width)[:, :steps].transpose(1, 0, 2)
    neuron.stop()
    return {"spikes": spikes, "accumulators": np.array(accumulators)}


def run(process: Any, steps: int) -> None:
    """Run everything that is connected to `process` for so many steps, fixed point."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg

    process.run(RunSteps(num_steps=steps), Loihi2SimCfg(select_tag="fixed_pt"))


def main() -> int:
    """Run each case of the arguments and write its result to the file named after it."""
    for source, destination in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        with np.load(source, allow_pickle=False) as archive:
            case = {name: archive[name] for name in archive.files}
        result = {"lif": lif, "dense": dense, "island": island, "netx": netx}[str(case["kind"])](case)
        np.savez(destination, **result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
