"""Brian 2: every spiking node of a batch is one NeuronGroup, all tokens side by side."""

from __future__ import annotations

from typing import Any

import numpy as np

PROFILES = ("brian2",)


def simulate(island: Any, values: Any) -> tuple[Any, Any]:
    """Spikes and output of `island`; the neurons in Brian, the products between them in numpy."""
    import brian2

    brian2.prefs.codegen.target = "numpy"
    brian2.prefs.core.default_float_dtype = np.float32
    brian2.prefs.codegen.loop_invariant_optimisations = False
    brian2.BrianLogger.suppress_name("method_choice")
    return island.layered(values, _fire)  # type: ignore[no-any-return]


def _fire(neuron: Any, current: Any) -> Any:
    """Spikes of `current` float32 [steps, batch, neuron], which the profile has scaled.

        v = v - (v - rest) / tau + I;  spike = v > threshold;  v = rest where it spiked (hard), v - step (soft)

    one step being one second, so that no unit divides a float. `threshold` is the node's, the float next below
    SpikingJelly's; a soft reset subtracts SpikingJelly's own.
    """
    import brian2

    steps, batch, size = current.shape
    brian2.start_scope()
    clock = brian2.Clock(dt=1 * brian2.second)
    given = {
        "tau": np.float32(neuron.tau),
        "rest": np.float32(neuron.rest),
        "by": np.float32(neuron.v_threshold),
        "current": brian2.TimedArray(current.reshape(steps, -1), dt=clock.dt),
    }
    reset = "v = v - by" if neuron.soft else "v = rest"
    model = "v : 1\nlevel : 1 (constant)"
    group = brian2.NeuronGroup(
        batch * size, model, threshold="v > level", reset=reset, namespace=given, clock=clock, dtype=np.float32
    )
    group.v = neuron.rest
    group.level = np.tile(neuron.node.v_threshold.reshape(-1), batch)
    group.run_regularly("v = v - (v - rest) / tau + current(t, i)", clock=clock, when="groups")
    monitor = brian2.SpikeMonitor(group)
    brian2.Network(group, *group.contained_objects, monitor).run(steps * brian2.second, namespace={})
    spikes = np.zeros((steps, batch * size), np.float32)
    spikes[np.rint(np.asarray(monitor.t / brian2.second)).astype(int), np.asarray(monitor.i)] = 1
    return spikes.reshape(steps, batch, size)
