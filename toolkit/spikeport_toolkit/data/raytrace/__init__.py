"""The path generator: sionna-rt over real, mapped and procedural cities (extra `[rt]`, LLVM 17 or newer)."""

from spikeport_toolkit.data.raytrace.generate import generate_city
from spikeport_toolkit.data.raytrace.settings import City, Tracing

__all__ = ["City", "Tracing", "generate_city"]
