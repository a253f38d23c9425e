"""One simulator a file, standalone: numpy and the simulator, nothing of spikeport, so that a bundle can carry it.

Each has PROFILES, the export profiles it runs, and simulate(island, values) -> (spikes [steps, batch, neurons], output
float32 [batch, *out]), or a third value, a dict of what else it measures; values are float32 [batch, *in], the same at
every step, or [steps, batch, *in]. An island it cannot run is a ValueError with the reason and the remedy.
"""
