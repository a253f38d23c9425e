"""`spikeport export`: write a bundle for a target."""

from __future__ import annotations

from pathlib import Path

from .output import DEFAULTS, Common, progress, say, show


def export(
    model: str,
    *,
    target: str,
    out: Path,
    precision: str | None = None,
    samples: int = 16,
    seed: int = 0,
    allow_approximate: bool = False,
    common: Common = DEFAULTS,
) -> int:
    """Convert a model for a target, run the result beside the reference, and write the bundle.

    Parameters
    ----------
    model
        Preset, checkpoint folder, or file.py:factory.
    target
        A target's id.
    out
        Bundle folder to write.
    precision
        fp32, fp16 or int8, as the target knows them; default: the card's own.
    samples
        Real channels for calibration and golden inputs.
    seed
        Seed of those channels.
    allow_approximate
        Write the bundle also where the target reproduces spikes only in part; parity is then reported, not gated.
    """
    from spikeport import api

    with progress(common) as advance:
        advance(f"export {model} for {target}", 0, 1)
        bundle = api.export(
            model,
            target=target,
            out=out,
            precision=precision,
            samples=samples,
            seed=seed,
            allow_approximate=allow_approximate,
        )
        advance(f"export {model} for {target}", 1, 1)
    show(bundle, common)
    if not bundle.parity:
        return 1
    say(f"next: spikeport check {out}", common)
    return 0
