"""Every simulator on every feature: writes docs/conformance.md, and the data file that the checker reads."""

from __future__ import annotations

from pathlib import Path

import spikeport
from spikeport_converters import conformance
from spikeport_converters.conformance_page import page
from spikeport_toolkit.files import write_json, write_text

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "conformance.md"
DATA = Path(conformance.__file__).parent / "data" / "conformance.json"
HEAD = (
    "Written by `benchmarks/conformance.py`; `spikeport conformance --target ID` runs one column, also for a target of",
    "another package (docs/add-a-target.md). Networks, weights and inputs are drawn with fixed seeds",
    f"({conformance.TOKENS} tokens; {conformance.TOKENS_ELSEWHERE}, and T up to 4 but for hard reset, for brian2, lava",
    "and sanafe, where each run starts a process in an environment of its own). `nir-legacy` is a file without",
    "`v_reset`, for readers of nir 1.0.4 or older, run here by spikeport's own reference.",
    "",
)


def main() -> None:
    result = spikeport.conformance(progress=lambda what, done, total: print(f"\r{what} {done}/{total}", end=""))
    write_json(DATA, result.to_dict())
    write_text(PAGE, page(result, HEAD))
    print("\n" + result.summary())


if __name__ == "__main__":
    main()
