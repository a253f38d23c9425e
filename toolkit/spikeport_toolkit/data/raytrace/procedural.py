"""Procedural cities: boxes on a concrete ground, from a seed, as a Mitsuba scene in XML."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["PLANS", "procedural_city"]

PLANS = ("grid", "rotated", "organic")
_WALLS = ("concrete", "brick", "marble", "glass")


def procedural_city(seed: int, style: str = "", size_m: float = 900.0) -> str:
    """The XML of a city of `size_m` a side: `style` is one of `PLANS` (default: seed modulo 3), the rest is drawn.

    Blocks of 50-80 m pitch with 12-22 m streets hold one, two or four buildings of 8-35 m; about one block in twelve
    is a park and one in sixteen a tower of 50-110 m. `grid` is axis-parallel, `rotated` turned by 10-35 degrees,
    `organic` bends every street and turns and shifts every block. Ground and walls are ITU materials that exist at
    28 GHz too (sionna's ground materials end at 10 GHz).
    """
    rng = np.random.default_rng([seed, 0x5CE7E])
    plan, extent = style or PLANS[seed % len(PLANS)], size_m / 2
    pitch, street = rng.uniform(50, 80, 2), rng.uniform(12, 22)
    city_angle = rng.uniform(10, 35) if plan == "rotated" else 0.0
    cells = int(1.5 * extent / pitch.min())
    shapes = []
    for i in range(-cells, cells + 1):
        for j in range(-cells, cells + 1):
            centre, angle = np.array([i, j]) * pitch, city_angle
            if plan == "organic":
                bend = 25 * np.sin(centre[::-1] / np.array([140.0, 170.0]) + seed)
                centre = centre + bend + rng.uniform(-4, 4, 2)
                angle = rng.uniform(-12, 12)
            else:
                centre = _rotated(centre, city_angle)
            footprint = pitch - street - rng.uniform(0, 4, 2)
            block = _block(rng, centre, footprint, angle)
            if np.abs(centre).max() < extent - pitch.max() / 2:
                shapes += block
    materials = "".join(_material(name) for name in (*_WALLS, "metal"))
    walls = "".join(_box(f"building-{n}", *shape) for n, shape in enumerate(shapes))
    ground = (
        '<shape type="rectangle" id="mesh-ground"><transform name="to_world">'
        f'<scale x="{extent:g}" y="{extent:g}" z="1"/></transform><ref id="street" name="bsdf"/></shape>'
    )
    return f'<scene version="2.1.0">{materials}{_material("street", "concrete")}{ground}{walls}</scene>'


_Shape = tuple[NDArray[np.float64], NDArray[np.float64], float, float, str]
"""Centre [2] m, size [2] m, height m, angle degrees, material."""


def _block(
    rng: np.random.Generator, centre: NDArray[np.float64], size: NDArray[np.float64], angle: float
) -> list[_Shape]:
    kind, split = rng.random(), rng.choice([1, 2, 4], p=[0.4, 0.35, 0.25])
    heights = np.clip(rng.lognormal(np.log(17), 0.35, 4), 8, 35)
    walls = rng.choice(_WALLS, 4)
    tower = rng.uniform(50, 110)
    if kind < 1 / 12:
        return []
    if kind < 1 / 12 + 1 / 16:
        return [(centre, 0.6 * size, float(tower), angle, "metal")]
    nx, ny = {1: (1, 1), 2: (2, 1), 4: (2, 2)}[int(split)]
    part = size / (nx, ny)
    shapes = []
    for k in range(nx * ny):
        offset = (np.array([k % nx, k // nx]) - (np.array([nx, ny]) - 1) / 2) * part
        gap = 5.0 if split > 1 else 0.0
        shapes.append((centre + _rotated(offset, angle), part - gap, float(heights[k]), angle, str(walls[k])))
    return shapes


def _rotated(xy: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned: NDArray[np.float64] = np.array([[c, -s], [s, c]]) @ xy
    return turned


def _material(name: str, itu_type: str | None = None) -> str:
    return (
        f'<bsdf type="itu-radio-material" id="{name}"><string name="type" value="{itu_type or name}"/>'
        '<float name="thickness" value="0.1"/></bsdf>'
    )


def _box(
    name: str, centre: NDArray[np.float64], size: NDArray[np.float64], height: float, angle: float, material: str
) -> str:
    x, y = centre
    return (
        f'<shape type="cube" id="mesh-{name}"><transform name="to_world">'
        f'<scale x="{size[0] / 2:.3f}" y="{size[1] / 2:.3f}" z="{height / 2:.3f}"/>'
        f'<rotate z="1" angle="{angle:.3f}"/><translate x="{x:.3f}" y="{y:.3f}" z="{height / 2:.3f}"/>'
        f'</transform><ref id="{material}" name="bsdf"/></shape>'
    )
