"""`spikeport doctor`: what is installed, what each target would need."""

from __future__ import annotations

import json
import platform

from .output import DEFAULTS, Common, say

PACKAGES = (
    "torch", "spikingjelly", "nir", "onnx", "onnxscript", "onnxruntime", "torchao", "numpy",
    "snntorch", "norse", "sinabs", "nirtorch", "sionna-rt", "tensorrt-rtx-cu12", "tensorrt",
)  # fmt: skip


def doctor(*, common: Common = DEFAULTS) -> None:
    """Say what is installed and what each target's runtime would need."""
    from importlib.metadata import PackageNotFoundError, version

    from spikeport_errors import MissingDependencyError
    from spikeport_targets.card import list_cards
    from spikeport_targets.environments import environments
    from spikeport_targets.runtime import runtimes
    from spikeport_toolkit.data.raytrace.llvm import find_llvm

    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    try:
        llvm, llvm_ok = str(find_llvm()), True
    except MissingDependencyError as error:
        llvm, llvm_ok = str(error), False
    states = {name: runtime.available() for name, runtime in runtimes().items()}
    cards = {card.id: card.runtime for card in list_cards()}
    if common.json:
        document = {
            "python": platform.python_version(),
            "packages": found,
            "llvm": {"ok": llvm_ok, "detail": llvm},
            "runtimes": {name: state.to_dict() for name, state in states.items()},
            "environments": [each.to_dict() for each in environments()],
            "targets": cards,
        }
        print(json.dumps(document, indent=2))
        return
    say(f"python {platform.python_version()} on {platform.machine()}", common)
    for package, text in found.items():
        say(f"  {package:18} {text or 'not installed'}", common)
    say(f"ray tracing (LLVM): {llvm}", common)
    for name, state in states.items():
        say(f"runtime {name:12} {state.summary()}", common)
    for each in environments():
        say(f"environment {each.summary()}", common)
    for target, runtime in cards.items():
        say(
            f"target {target:17} {'runs here by ' + runtime if runtime else 'costed only, nothing runs it here'}",
            common,
        )
