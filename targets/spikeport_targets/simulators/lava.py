"""Lava, floating point: every spiking node of a batch is one LIF process, all tokens side by side."""

from __future__ import annotations

from typing import Any

import numpy as np

PROFILES = ("lava",)


def simulate(island: Any, values: Any) -> tuple[Any, Any]:
    """Spikes and output of `island`; the neurons in Lava, the products between them in numpy."""
    for neuron in island.neurons:
        if neuron.soft or np.any(neuron.node.v_reset) or np.any(getattr(neuron.node, "v_leak", 0)):
            raise ValueError("Lava's LIF resets hard to 0 only: train with hard reset, or export with --target brian2")
        if np.unique(neuron.node.v_threshold).size != 1:
            raise ValueError("Lava's LIF has one threshold for all neurons: use a binary neuron, or --target brian2")
    return island.layered(values, _fire)  # type: ignore[no-any-return]


def _fire(neuron: Any, current: Any) -> Any:
    """Spikes of `current` float32 [steps, batch, neuron], which the profile has scaled.

        u = a;  v = (1 - dv) v + u;  spike = v > vth;  v = 0 where it spiked            dv = 1 / tau, du = 1

    The current enters as what a synapse would give (a), step by step: a bias would also count in the step that a
    dense synapse takes.
    """
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.extractor import Extractor, PyLoihiExtractorModel
    from lava.proc.io.source import RingBuffer as Source
    from lava.proc.lif.process import LIF

    steps, batch, size = current.shape
    width = batch * size
    source = Source(data=np.ascontiguousarray(current.reshape(steps, width).T, np.float64))
    lif = LIF(shape=(width,), du=1.0, dv=1 / neuron.tau, vth=float(neuron.node.v_threshold.flat[0]))
    reader = Extractor(shape=(width,), buffer_size=steps)  # reading a Var instead takes 50 us an element
    source.s_out.connect(lif.a_in)
    lif.s_out.connect(reader.in_port)
    config = Loihi2SimCfg(select_tag="floating_pt", exception_proc_model_map={Extractor: PyLoihiExtractorModel})
    try:
        lif.run(RunSteps(num_steps=steps), config)
        spikes = [reader.receive() for _ in range(steps)]
    finally:
        lif.stop()
    return np.array(spikes, np.float32).reshape(steps, batch, size)
