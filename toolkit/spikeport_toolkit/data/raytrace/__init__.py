"""The path generator: sionna-rt over four real and six procedural cities (extra `[rt]`, LLVM 17 or newer)."""

from spikeport_toolkit.data.raytrace.generate import generate

__all__ = ["generate"]
