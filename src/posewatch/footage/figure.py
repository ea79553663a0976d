"""The body of the figure: a clothed person of smooth parts on the skeleton of pybullet's humanoid.

Every part is a loft: elliptic rings along a bone. Neighbouring parts overlap, so that no gap shows between limbs. Lengths
are metres of the unscaled body (1.62 m); the skeleton is four times life size in its file.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posewatch.footage.motion import data_folder

Colour = tuple[float, float, float]
Ring = tuple[float, float, float, float, float]
"""Position along the axis, centre across it (forward, sideways), and the two radii."""

FILE_SCALE = 4.0
"""The skeleton in pybullet_data is four times life size; meshes are written at the same size."""


@dataclass(frozen=True)
class Look:
    """The look of a figure. ``height`` scales the whole body (1.0 is 1.62 m), ``build`` its girth."""

    skin: Colour
    shirt: Colour
    trousers: Colour
    hair: Colour
    shoes: Colour
    height: float = 1.05
    build: float = 1.0
    short_sleeves: bool = False
    shorts: bool = False
    long_hair: bool = False


_SKINS: tuple[Colour, ...] = (
    (0.93, 0.76, 0.65), (0.87, 0.67, 0.54), (0.76, 0.56, 0.42), (0.62, 0.43, 0.31), (0.47, 0.32, 0.23), (0.37, 0.25, 0.18),
)  # fmt: skip
_HAIRS: tuple[Colour, ...] = (
    (0.07, 0.05, 0.04),
    (0.16, 0.10, 0.06),
    (0.35, 0.22, 0.12),
    (0.62, 0.52, 0.32),
    (0.5, 0.5, 0.5),
)


def draw_look(rng: np.random.Generator) -> Look:
    """A random person."""

    def cloth(low: float, high: float) -> Colour:
        base = rng.uniform(low, high)
        tint = rng.uniform(-0.18, 0.18, 3)
        red, green, blue = np.clip(base + tint, 0.04, 0.92)
        return (float(red), float(green), float(blue))

    return Look(
        skin=_SKINS[rng.integers(len(_SKINS))],
        shirt=cloth(0.15, 0.85),
        trousers=cloth(0.10, 0.45),
        hair=_HAIRS[rng.integers(len(_HAIRS))],
        shoes=cloth(0.05, 0.35),
        height=float(rng.uniform(0.97, 1.15)),
        build=float(rng.uniform(0.92, 1.12)),
        short_sleeves=bool(rng.random() < 0.45),
        shorts=bool(rng.random() < 0.2),
        long_hair=bool(rng.random() < 0.35),
    )


# -- the parts: link -> (colour, axis, rings) ---------------------------------------------------------------------------
_PELVIS: list[Ring] = [
    (-0.10, 0, 0, 0.04, 0.07), (-0.07, 0, 0, 0.10, 0.14), (0.0, 0, 0, 0.117, 0.162), (0.06, 0, 0, 0.112, 0.152),
    (0.11, 0, 0, 0.08, 0.11),
]  # fmt: skip
_WAIST: list[Ring] = [
    (0.02, 0, 0, 0.07, 0.11), (0.04, 0, 0, 0.118, 0.160), (0.12, 0, 0, 0.110, 0.144), (0.20, 0, 0, 0.108, 0.144),
    (0.29, 0, 0, 0.105, 0.145), (0.33, 0, 0, 0.05, 0.08),
]  # fmt: skip
_CHEST: list[Ring] = [
    (-0.06, 0, 0, 0.06, 0.09), (-0.03, 0, 0, 0.106, 0.143), (0.05, 0.004, 0, 0.117, 0.160), (0.13, 0.006, 0, 0.122, 0.174),
    (0.19, 0.0, 0, 0.112, 0.182), (0.235, -0.01, 0, 0.088, 0.170), (0.265, -0.015, 0, 0.066, 0.11), (0.285, -0.015, 0, 0.045, 0.06),
]  # fmt: skip
_NECK: list[Ring] = [(-0.03, -0.01, 0, 0.06, 0.06), (0.02, -0.005, 0, 0.055, 0.054), (0.12, 0.005, 0, 0.052, 0.05)]
_HEAD: list[Ring] = [
    (0.062, 0.05, 0, 0.022, 0.022), (0.072, 0.045, 0, 0.05, 0.042), (0.10, 0.026, 0, 0.075, 0.060), (0.14, 0.014, 0, 0.090, 0.072),
    (0.18, 0.006, 0, 0.099, 0.077), (0.22, 0.0, 0, 0.097, 0.077), (0.255, -0.004, 0, 0.074, 0.062), (0.277, -0.004, 0, 0.035, 0.03),
]  # fmt: skip
_HAIR: list[Ring] = [
    (0.11, -0.065, 0, 0.03, 0.045), (0.14, -0.040, 0, 0.068, 0.074), (0.18, -0.028, 0, 0.084, 0.084),
    (0.22, -0.014, 0, 0.100, 0.087), (0.25, -0.006, 0, 0.095, 0.079), (0.275, -0.005, 0, 0.066, 0.057), (0.29, -0.005, 0, 0.03, 0.026),
]  # fmt: skip
_LONG_HAIR: list[Ring] = [
    (-0.01, -0.075, 0, 0.02, 0.05), (0.03, -0.075, 0, 0.035, 0.075), (0.12, -0.058, 0, 0.055, 0.085), (0.20, -0.04, 0, 0.07, 0.086),
    (0.24, -0.02, 0, 0.05, 0.06),
]  # fmt: skip
_THIGH: list[Ring] = [
    (0.07, 0, 0, 0.045, 0.045), (0.045, 0, 0, 0.082, 0.078), (-0.04, 0.002, 0, 0.092, 0.087), (-0.20, 0.004, 0, 0.078, 0.074),
    (-0.36, 0.002, 0, 0.061, 0.059), (-0.43, 0, 0, 0.058, 0.056), (-0.465, 0, 0, 0.03, 0.03),
]  # fmt: skip
_SHIN: list[Ring] = [
    (0.045, 0, 0, 0.03, 0.03), (0.02, 0, 0, 0.056, 0.054), (-0.10, -0.010, 0, 0.061, 0.056), (-0.24, -0.008, 0, 0.050, 0.048),
    (-0.37, 0, 0, 0.045, 0.042), (-0.405, 0, 0, 0.045, 0.043), (-0.42, 0, 0, 0.02, 0.02),
]  # fmt: skip
_SHOE: list[Ring] = [  # along x: up, sideways
    (-0.075, -0.022, 0, 0.014, 0.014), (-0.066, -0.014, 0, 0.035, 0.032), (-0.01, -0.006, 0, 0.046, 0.039), (0.05, -0.020, 0, 0.032, 0.043),
    (0.11, -0.030, 0, 0.022, 0.044), (0.15, -0.034, 0, 0.018, 0.034), (0.166, -0.037, 0, 0.008, 0.014),
]  # fmt: skip
_ARM: list[Ring] = [
    (0.065, 0, 0, 0.02, 0.02), (0.05, 0, 0, 0.050, 0.046), (0.0, 0, 0, 0.064, 0.062), (-0.10, 0, 0, 0.054, 0.052), (-0.22, 0, 0, 0.046, 0.044),
    (-0.28, 0, 0, 0.043, 0.042), (-0.31, 0, 0, 0.02, 0.02),
]  # fmt: skip
_SLEEVE: list[Ring] = [*_ARM[:4], (-0.155, 0, 0, 0.056, 0.054), (-0.165, 0, 0, 0.03, 0.03)]
_BARE_ARM: list[Ring] = [(-0.10, 0, 0, 0.03, 0.03), (-0.13, 0, 0, 0.045, 0.043), *_ARM[4:]]
_FOREARM: list[Ring] = [
    (0.035, 0, 0, 0.02, 0.02), (0.015, 0, 0, 0.042, 0.041), (-0.08, 0, 0, 0.044, 0.041), (-0.20, 0, 0, 0.034, 0.031),
    (-0.25, 0, 0, 0.031, 0.029), (-0.265, 0, 0, 0.018, 0.018),
]  # fmt: skip
_HAND: list[Ring] = [
    (0.03, 0, 0, 0.022, 0.020), (-0.01, 0.002, 0, 0.034, 0.022), (-0.05, 0.006, 0, 0.041, 0.022), (-0.09, 0.004, 0, 0.038, 0.020),
    (-0.14, 0.0, 0, 0.026, 0.014), (-0.16, 0, 0, 0.01, 0.008),
]  # fmt: skip


def _ball(x: float, y: float, z: float, rx: float, ry: float, rz: float) -> list[Ring]:
    angles = np.linspace(-0.5, 0.5, 7)[1:-1] * np.pi
    return [(y + ry * float(np.sin(a)), x, z, rx * float(np.cos(a)), rz * float(np.cos(a))) for a in angles]


def _parts(look: Look) -> dict[str, list[tuple[Colour, str, list[Ring], float]]]:
    """Parts by link as (colour, axis, rings, girth)."""
    b, dark = look.build, (0.05, 0.04, 0.04)
    red, green, blue = look.skin
    lips: Colour = (min(1.0, red * 0.85), green * 0.62, blue * 0.62)
    parts: dict[str, list[tuple[Colour, str, list[Ring], float]]] = {
        "root": [(look.trousers, "y", _PELVIS, b), (look.shirt, "y", _WAIST, b)],
        "chest": [(look.shirt, "y", _CHEST, b)],
        "neck": [
            (look.skin, "y", _NECK, 1.0), (look.skin, "y", _HEAD, 1.0), (look.hair, "y", _HAIR, 1.0),
            (look.skin, "y", _ball(0.108, 0.158, 0, 0.016, 0.022, 0.014), 1.0),
            (lips, "y", _ball(0.096, 0.118, 0, 0.010, 0.007, 0.024), 1.0),
        ],
    }  # fmt: skip
    for z in (-1, 1):
        parts["neck"].append((dark, "y", _ball(0.092, 0.188, 0.032 * z, 0.010, 0.009, 0.014), 1.0))
        parts["neck"].append((look.hair, "y", _ball(0.094, 0.206, 0.033 * z, 0.010, 0.005, 0.020), 1.0))
        parts["neck"].append((look.skin, "y", _ball(0.002, 0.165, 0.080 * z, 0.020, 0.030, 0.010), 1.0))
    if look.long_hair:
        parts["neck"].append((look.hair, "y", _LONG_HAIR, 1.0))
    for side in ("right", "left"):
        if look.short_sleeves:
            upper = [(look.shirt, "y", _SLEEVE, b), (look.skin, "y", _BARE_ARM, b)]
        else:
            upper = [(look.shirt, "y", _ARM, b)]
        parts[f"{side}_shoulder"] = upper
        parts[f"{side}_elbow"] = [(look.skin if look.short_sleeves else look.shirt, "y", _FOREARM, b)]
        parts[f"{side}_wrist"] = [(look.skin, "y", _HAND, 1.0)]
        parts[f"{side}_hip"] = [(look.trousers, "y", _THIGH, b)]
        parts[f"{side}_knee"] = [(look.skin if look.shorts else look.trousers, "y", _SHIN, b)]
        parts[f"{side}_ankle"] = [(look.shoes, "x", _SHOE, 1.0)]
    return parts


def loft(
    rings: list[Ring], axis: str, girth: float, segments: int = 14
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A closed mesh through elliptic rings: vertices (V, 3) in metres and triangles (F, 3), outward."""
    a = np.arange(segments) * 2 * np.pi / segments
    rows = [
        np.array([[r[0], r[1] + r[3] * girth * np.cos(t), r[2] + r[4] * girth * np.sin(t)] for t in a]) for r in rings
    ]
    poles = np.array([[rings[i][0], rings[i][1], rings[i][2]] for i in (0, -1)])
    points = np.concatenate([*rows, poles])
    faces = []
    for i in range(len(rings) - 1):
        for j in range(segments):
            k = (j + 1) % segments
            p, q, r, s = i * segments + j, i * segments + k, (i + 1) * segments + j, (i + 1) * segments + k
            faces += [(p, q, s), (p, s, r)]
    first, last = len(points) - 2, len(points) - 1
    base = (len(rings) - 1) * segments
    for j in range(segments):
        k = (j + 1) % segments
        faces += [(first, k, j), (last, base + j, base + k)]
    vertices = points[:, [1, 0, 2]] if axis == "y" else points  # rings run along x or y; across: (x|y, z)
    triangles = np.array(faces)
    corners = vertices[triangles]
    volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum()
    return vertices, triangles if volume > 0 else triangles[:, ::-1]


def _write_obj(path: Path, vertices: NDArray[np.float64], triangles: NDArray[np.int64]) -> None:
    corners = vertices[triangles]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for i in range(3):
        np.add.at(normals, triangles[:, i], face)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in vertices * FILE_SCALE]
    lines += ["vt 0 0"] + [f"vn {x:.4f} {y:.4f} {z:.4f}" for x, y, z in normals]
    lines += ["f " + " ".join(f"{v}/1/{v}" for v in row) for row in triangles + 1]
    path.write_text("\n".join(lines) + "\n")


def write_figure(look: Look, folder: Path, *, skin: bool = True) -> Path:
    """Write the figure's meshes and its URDF into ``folder``; returns the URDF, to be loaded at ``height / FILE_SCALE``.

    Without ``skin`` there is nothing to be seen of it, and it loads faster: joints move and bodies fall alike.
    """
    folder.mkdir(parents=True, exist_ok=True)
    raw = (data_folder() / "humanoid" / "humanoid.urdf").read_bytes().decode("latin1")
    robot = ET.fromstring(raw[raw.index("<robot") : raw.rindex("</robot>") + len("</robot>")])
    parts = _parts(look) if skin else {}
    for link in robot.findall("link"):
        for visual in link.findall("visual"):
            link.remove(visual)
        for number, (colour, axis, rings, girth) in enumerate(parts.get(link.get("name", ""), [])):
            mesh = folder / f"{link.get('name')}-{number}.obj"
            _write_obj(mesh, *loft(rings, axis, girth))
            visual = ET.SubElement(link, "visual")
            ET.SubElement(visual, "origin", xyz="0 0 0", rpy="0 0 0")
            ET.SubElement(ET.SubElement(visual, "geometry"), "mesh", filename=str(mesh), scale="1 1 1")
            rgba = " ".join(f"{c:.3f}" for c in (*colour, 1.0))
            ET.SubElement(ET.SubElement(visual, "material", name=rgba.replace(" ", "_")), "color", rgba=rgba)
    path = folder / "figure.urdf"
    path.write_text(ET.tostring(robot, encoding="unicode"))
    return path
