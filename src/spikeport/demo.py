"""The whole flow on real input: evaluate, export, check, profile, report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from spikeport_errors import CheckFailed, MissingDependencyError
from spikeport_profiles.report import Report

from . import api

MODEL, TWINS = "spikewfm-nano", ("spikewfm-nano-relu", "spikewfm-nano-qrelu")
BUNDLES = (("jetson-orin-nano", "fp16"), ("jetson-orin-nano", "int8"), ("snntorch", "fp32"), ("norse", "fp32"))
TARGETS = ("jetson-orin-nano", "loihi2", "cmos45")


def run_demo(out: Path, *, links: int, progress: Callable[[str, int, int], None]) -> Report:
    """Write `out`: evaluation.json, profile.json, one bundle per entry of BUNDLES, and the report.

    A simulator that is not installed is passed over, and said so. Raises CheckFailed if a parity does not hold.
    """
    out.mkdir(parents=True, exist_ok=True)
    api.evaluate(MODEL, out=out, compare=TWINS, links=links, progress=progress)
    failed = []
    for index, (target, precision) in enumerate(BUNDLES):
        name = f"{target}-{precision}"
        progress(f"export and check {name}", index, len(BUNDLES))
        try:
            api.export(MODEL, target=target, precision=precision, out=out / name)
        except MissingDependencyError as error:
            progress(f"left out {name}: {error}", index + 1, len(BUNDLES))
            continue
        if not api.check(out / name):
            failed.append(name)
        progress(f"export and check {name}", index + 1, len(BUNDLES))
    progress("profile", 0, 1)
    api.profile(MODEL, targets=TARGETS, out=out)
    progress("profile", 1, 1)
    made = api.report([out], out=out)
    if failed:
        raise CheckFailed(f"parity does not hold for {', '.join(failed)}: see {made.html}, then `spikeport check DIR`")
    return made
