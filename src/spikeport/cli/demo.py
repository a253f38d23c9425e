"""`spikeport demo`: the whole flow on real input."""

from __future__ import annotations

from pathlib import Path

from .output import DEFAULTS, Common, Whole, progress, say, show


def demo(*, out: Path = Path("spikeport-demo"), links: Whole = 200, common: Common = DEFAULTS) -> None:
    """Evaluate, export, check, profile and report the shipped spikewfm-nano on the embedded cities.

    Parameters
    ----------
    out
        Run folder to write.
    links
        Test links per point of the evaluation.
    """
    from spikeport import api

    with progress(common) as advance:
        made = api.demo(out, links=links, progress=advance)
    show(made, common)
    bundles = sorted(path.parent.name for path in out.glob("*/manifest.json"))
    say(f"bundles in {out}: {', '.join(bundles)}", common)
    say(f"next: open {made.html}, or copy {out / 'jetson-orin-nano-fp16'} to a Jetson and run `python3 run.py`", common)
