"""Footprints to a Mitsuba scene: walls, flat roofs, a flat concrete ground."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spikeport_toolkit.data.raytrace.footprints import Footprint

__all__ = ["extrude", "triangulate", "write_scene"]

_MARGIN_M = 100.0
"""Open ground around the outermost buildings."""


def write_scene(buildings: Sequence[Footprint], folder: Path) -> Path:
    """Write `folder`/scene.xml with one PLY mesh a wall material, and a ground 100 m wider than the buildings.

    The ground is concrete, because sionna's ground materials are defined up to 10 GHz only.
    """
    corners = np.concatenate([b.ring for b in buildings])
    middle, half = (corners.min(0) + corners.max(0)) / 2, np.ptp(corners, axis=0) / 2 + _MARGIN_M
    materials = sorted({b.material for b in buildings})
    shapes = [
        f'<shape type="rectangle" id="mesh-ground"><transform name="to_world"><scale x="{half[0]:.2f}" '
        f'y="{half[1]:.2f}" z="1"/><translate x="{middle[0]:.2f}" y="{middle[1]:.2f}" z="0"/></transform>'
        '<ref id="street" name="bsdf"/></shape>'
    ]
    for name in materials:
        _write_ply(folder / f"{name}.ply", *_merged([extrude(b) for b in buildings if b.material == name]))
        shapes.append(
            f'<shape type="ply" id="mesh-buildings-{name}"><string name="filename" value="{name}.ply"/>'
            f'<boolean name="face_normals" value="true"/><ref id="{name}" name="bsdf"/></shape>'
        )
    bsdfs = [
        f'<bsdf type="itu-radio-material" id="{name}"><string name="type" value="{kind}"/>'
        '<float name="thickness" value="0.1"/></bsdf>'
        for name, kind in [("street", "concrete"), *((m, m) for m in materials)]
    ]
    path = folder / "scene.xml"
    path.write_text(f'<scene version="2.1.0">{"".join(bsdfs + shapes)}</scene>', encoding="utf-8")
    return path


def extrude(building: Footprint) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Vertices [2 n, 3] m (the ring on the ground, then on the roof) and outward triangles [3 n - 2, 3]."""
    n = len(building.ring)
    here, following = np.arange(n), np.roll(np.arange(n), -1)
    vertices = np.column_stack([np.tile(building.ring, (2, 1)), np.repeat([0.0, building.height_m], n)])
    walls = np.concatenate(
        [np.stack([here, following, following + n], 1), np.stack([here, following + n, here + n], 1)]
    )
    return vertices, np.concatenate([walls, triangulate(building.ring) + n]).astype(np.int32)


def triangulate(ring: NDArray[np.float64]) -> NDArray[np.int32]:
    """[n - 2, 3] corners of the triangles that fill a simple anticlockwise polygon [n, 2], by clipping ears."""
    left, triangles = list(range(len(ring))), []
    while len(left) > 3:
        ear = next((i for i in range(len(left)) if _is_ear(ring, left, i)), 0)
        triangles.append((left[ear - 1], left[ear], left[(ear + 1) % len(left)]))
        del left[ear]
    return np.array([*triangles, left], np.int32)


def _is_ear(ring: NDArray[np.float64], left: list[int], i: int) -> bool:
    corners = left[i - 1], left[i], left[(i + 1) % len(left)]
    a, b, c = ring[list(corners)]
    if _turn(a, b, c[None])[0] <= 0:
        return False
    others = ring[[k for k in left if k not in corners]]
    inside = (_turn(a, b, others) >= 0) & (_turn(b, c, others) >= 0) & (_turn(c, a, others) >= 0)
    return not inside.any()


def _turn(a: NDArray[np.float64], b: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twice the signed area of (a, b, point) for every point: positive where it lies left of a to b."""
    side: NDArray[np.float64] = (b[0] - a[0]) * (points[:, 1] - a[1]) - (b[1] - a[1]) * (points[:, 0] - a[0])
    return side


def _merged(
    meshes: Sequence[tuple[NDArray[np.float64], NDArray[np.int32]]],
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    starts = np.cumsum([0, *(len(v) for v, _ in meshes)])
    faces = [f + s for (_, f), s in zip(meshes, starts, strict=False)]
    return np.concatenate([v for v, _ in meshes]), np.concatenate(faces).astype(np.int32)


def _write_ply(path: Path, vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> None:
    table = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    table["count"], table["corners"] = 3, faces
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\nproperty float x\nproperty float y\n"
        f"property float z\nelement face {len(faces)}\nproperty list uchar int vertex_index\nend_header\n"
    )
    path.write_bytes(header.encode() + vertices.astype("<f4").tobytes() + table.tobytes())
