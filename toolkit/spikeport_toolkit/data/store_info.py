"""What a store holds, from its index alone: cities, links, gains, licences, checksums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .path_store import is_store, packed_sets, read_index
from .schema import PATH_FIELDS, PathSet
from .shards import read_facts, verify_shard

__all__ = ["StoreInfo", "store_info"]


@dataclass(frozen=True)
class StoreInfo:
    """What `spikeport data info` shows."""

    path: str
    kind: str
    """paths or channels."""
    shards: Sequence[dict[str, Any]]
    """Per shard: name, licence, attribution, bytes and the facts of its sets."""
    recipe: str = ""
    unseen_cities: Sequence[str] = ()
    verified: bool = False
    """Whether the sha256 of every file was compared."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with totals."""
        sets = [item for shard in self.shards for item in shard["sets"]]
        links = sum(int(item["links"]) for item in sets)
        totals: dict[str, Any] = {"links": links, "bytes": sum(int(shard["bytes"]) for shard in self.shards)}
        if self.kind == "paths":
            shares = sum(item["los_share"] * item["links"] for item in sets)
            totals |= {
                "cities": sorted({item["city"] for item in sets}),
                "stations": len({(item["city"], item["station"]) for item in sets}),
                "carriers_hz": sorted({item["carrier_hz"] for item in sets}),
                "los_share": shares / max(1, links),
                "mean_paths": sum(item["mean_paths"] * item["links"] for item in sets) / max(1, links),
            }
        return {
            "path": self.path, "kind": self.kind, "recipe": self.recipe, "verified": self.verified, **totals,
            "unseen_cities": list(self.unseen_cities), "shards": list(self.shards),
        }  # fmt: skip

    def summary(self) -> str:
        """A line a set, the totals, the licences."""
        facts = self.to_dict()
        lines = [_line(item) for shard in self.shards for item in shard["sets"]]
        total = f"{facts['links']:,} links in {len(self.shards)} shards, {facts['bytes'] / 1e6:.1f} MB"
        if self.kind == "paths":
            carriers = " and ".join(f"{c / 1e9:g}" for c in facts["carriers_hz"])
            total += (
                f"; {len(facts['cities'])} cities, {facts['stations']} stations, {carriers} GHz, "
                f"{facts['los_share']:.0%} line of sight, {facts['mean_paths']:.1f} paths a link"
            )
        lines += ["", total]
        if self.unseen_cities:
            lines.append(f"never in training: {', '.join(self.unseen_cities)}")
        for rights in dict.fromkeys((shard["licence"], shard["attribution"]) for shard in self.shards):
            names = ", ".join(s["name"] for s in self.shards if (s["licence"], s["attribution"]) == rights)
            lines.append(f"licence {rights[0]} ({rights[1]}): {names}")
        lines.append("checksums verified" if self.verified else "sizes checked; --verify compares the checksums too")
        return "\n".join(lines)


def store_info(path: Path, *, verify: bool = False) -> StoreInfo:
    """Facts of a store, of a folder of npz files, or of `embedded`; `verify` also compares every sha256."""
    path = Path(path)
    if not is_store(path):
        shipped = str(path) == "embedded"
        rights = (
            ("ODbL-1.0 and Apache-2.0", "see data/embedded/README.md") if shipped else ("unknown", "plain npz files")
        )
        shards: list[dict[str, Any]] = [
            {"name": name, "licence": rights[0], "attribution": rights[1], "bytes": sum(_bytes(s) for s in sets),
             "sets": [item.to_dict() for item in sets]}
            for name, sets in packed_sets(path).items()
        ]  # fmt: skip
        return StoreInfo(str(path), "paths", shards, verified=True)
    index, check = read_index(path), verify_shard if verify else read_facts
    shards = []
    for name in index["shards"]:
        facts = check(path / name)
        size = sum(int(entry["bytes"]) for entry in facts["files"].values())
        shards.append(
            {k: facts.get(k, "unknown") for k in ("name", "licence", "attribution", "sets")} | {"bytes": size}
        )
    unseen = [c for c in index.get("unseen_cities", ()) if any(c == i.get("city") for s in shards for i in s["sets"])]
    return StoreInfo(str(path), str(index.get("kind")), shards, str(index.get("name", "")), unseen, verify)


def _bytes(item: PathSet) -> int:
    return sum(int(getattr(item, name).nbytes) for name in (*PATH_FIELDS, "n_paths", "los", "ue"))


def _line(item: dict[str, Any]) -> str:
    if "station" not in item:
        shape = " x ".join(map(str, item["shape"]))
        return (
            f"{item['name']} ({item['kind']}), {item['carrier_hz'] / 1e9:g} GHz: link x time x antenna x tone {shape}"
        )
    gain = "no path" if item["median_gain_db"] is None else f"median gain {item['median_gain_db']:.1f} dB"
    return (
        f"{item['city']}/{item['station']} {item['carrier_hz'] / 1e9:g} GHz: {item['links']} links, "
        f"{item['los_share']:.0%} line of sight, {item['mean_paths']:.1f} paths a link, {gain}"
    )
