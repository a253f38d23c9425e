"""spikeport: port hybrid spiking transformers to Jetson-class GPUs and neuromorphic targets, and say what they cost.

    model = spikeport.load_model("spikewfm-nano")
    bundle = spikeport.export("spikewfm-nano", target="jetson-orin-nano", precision="fp16", out="bundle")
    result = spikeport.profile("spikewfm-nano", targets=["jetson-orin-nano", "loihi2"], out="run")

Every function here is also a command: `spikeport --help`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spikeport_errors import (
    CardError,
    CheckFailed,
    InputError,
    MissingDependencyError,
    SpikeportError,
    UnsupportedError,
    UsageError,
)

if TYPE_CHECKING:
    from .api import (
        Counts,
        ann_to_snn,
        check,
        conformance,
        demo,
        estimate,
        evaluate,
        export,
        import_weights,
        load_model,
        plan,
        profile,
        report,
        sweep,
        trace,
        train,
    )

__version__ = "0.1.0"
_API = (
    "Counts", "ann_to_snn", "check", "conformance", "demo", "estimate", "evaluate", "export", "import_weights",
    "load_model", "plan", "profile", "report", "sweep", "trace", "train",
)  # fmt: skip

__all__ = [
    "CardError",
    "CheckFailed",
    "Counts",
    "InputError",
    "MissingDependencyError",
    "SpikeportError",
    "UnsupportedError",
    "UsageError",
    "__version__",
    "ann_to_snn",
    "check",
    "conformance",
    "demo",
    "estimate",
    "evaluate",
    "export",
    "import_weights",
    "load_model",
    "plan",
    "profile",
    "report",
    "sweep",
    "trace",
    "train",
]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; `import spikeport` and `spikeport --help` do without it.
    if name in _API:
        return getattr(import_module("spikeport.api"), name)
    raise AttributeError(f"module 'spikeport' has no attribute {name!r}")
