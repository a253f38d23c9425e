"""SpikeWFM and its twins: configuration, modules, presets, checkpoints."""
