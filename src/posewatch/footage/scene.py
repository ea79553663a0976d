"""The room, the light and the camera of a video, and the images that the camera takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_NEAR, _FAR = 0.1, 30.0


@dataclass(frozen=True)
class Camera:
    """A fixed camera: ``eye`` and ``aim`` in metres (y is up), the vertical field of view in degrees, (width, height)."""

    eye: tuple[float, float, float]
    aim: tuple[float, float, float]
    fov: float
    size: tuple[int, int]

    def _axes(self) -> NDArray[np.float64]:
        ahead = np.array(self.aim) - self.eye
        ahead /= np.linalg.norm(ahead)
        right = np.cross(ahead, [0.0, 1.0, 0.0])
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(right, ahead), ahead])

    def project(self, points: Vector) -> Vector:
        """Pixels and depth (..., 3) as x, y, metres before the camera, of points (..., 3) in metres."""
        width, height = self.size
        local = (points - np.array(self.eye)) @ self._axes().T
        depth = np.maximum(local[..., 2], 1e-6)
        focal = height / 2 / np.tan(np.radians(self.fov) / 2)
        return np.stack(
            [width / 2 + focal * local[..., 0] / depth, height / 2 - focal * local[..., 1] / depth, local[..., 2]], -1
        )


@dataclass(frozen=True)
class Light:
    """The direction of the light, its shares without (ambient) and with direction (diffuse), and its colour."""

    direction: tuple[float, float, float]
    ambient: float
    diffuse: float
    colour: tuple[float, float, float]


_THIN = 0.0005
"""Thickness in metres of a patch of floor; the edge of a thicker one would be visible."""
_SAME_M = 0.04
"""Difference in metres up to which two depths are the same surface."""


@dataclass(frozen=True)
class Shot:
    """One image: RGB uint8 (H, W, 3), depth in metres (H, W), and the body in each pixel (H, W), -1 for none."""

    image: NDArray[np.uint8]
    depth: Vector
    bodies: NDArray[np.int32]


def aim_camera(points: Vector, size: tuple[int, int], rng: np.random.Generator) -> Camera:
    """A camera 2 to 3 m up, tilted down, just far enough to have all ``points`` (N, 3) of the people in its view."""
    low, high = points.min(0), points.max(0)
    middle = (low + high) / 2
    fov, lift = rng.uniform(40, 58), rng.uniform(2.0, 2.9)
    yaw = rng.uniform(0, 2 * np.pi)
    aim = (float(middle[0]), float(rng.uniform(0.72, 0.85)), float(middle[2]))
    inset = np.array([0.05 * size[0], 0.04 * size[1]])
    best = None
    # of a few directions the closest one, so that people stay large although they move
    for turn in np.linspace(0, 2 * np.pi, 7)[:-1]:
        side = np.array([np.cos(yaw + turn), np.sin(yaw + turn)])
        for distance in np.arange(2.4, 9.0, 0.15):
            eye = (aim[0] + float(side[0] * distance), float(lift), aim[2] + float(side[1] * distance))
            camera = Camera(eye, aim, float(fov), size)
            seen = camera.project(points)
            inside = (seen[:, :2] > inset) & (seen[:, :2] < np.array(size) - inset)
            if inside.all() and (seen[:, 2] > 0.8).all():
                break
        if best is None or distance < best[0] - 0.3:
            best = (distance, camera)
    assert best is not None
    return best[1]


def draw_light(rng: np.random.Generator) -> Light:
    """A light from above, of a slightly warm or cold colour."""
    angle, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.95)
    warm = rng.uniform(-0.06, 0.06)
    return Light(
        (float(np.cos(angle) * tilt), 1.0, float(np.sin(angle) * tilt)),
        float(rng.uniform(0.5, 0.65)),
        float(rng.uniform(0.38, 0.55)),
        (float(1 + warm), 1.0, float(1 - warm)),
    )


def _box(client: Any, half: list[float], centre: list[float], colour: list[float], yaw: float = 0.0) -> None:
    shape = client.createVisualShape(
        client.GEOM_BOX, halfExtents=half, rgbaColor=[*colour, 1.0], specularColor=[0, 0, 0]
    )
    client.createMultiBody(0, -1, shape, centre, [0, float(np.sin(yaw / 2)), 0, float(np.cos(yaw / 2))])


def furnish(client: Any, camera: Camera, people: Vector, rng: np.random.Generator) -> list[float]:
    """Add floor, walls, a door, and boxes that neither touch ``people`` (N, 3) nor stand between them and the camera.

    Returns the colour of the floor.
    """

    def paint(low: float, high: float) -> list[float]:
        return [float(c) for c in np.clip(rng.uniform(low, high) + rng.uniform(-0.06, 0.06, 3), 0.08, 0.97)]

    middle, eye = np.array(camera.aim)[[0, 2]], np.array(camera.eye)[[0, 2]]
    away = middle - eye
    distance = float(np.hypot(*away))
    away = away / distance
    yaw = float(np.arctan2(-away[1], away[0]) + rng.uniform(-0.35, 0.35))
    ahead, across = np.array([np.cos(yaw), -np.sin(yaw)]), np.array([np.sin(yaw), np.cos(yaw)])
    reach = float(np.abs((people[:, [0, 2]] - middle) @ np.stack([ahead, across], 1)).max())
    back, side = reach + rng.uniform(0.9, 2.2), max(reach + 0.8, rng.uniform(2.6, 4.2))
    wall, floor = paint(0.55, 0.85), paint(0.30, 0.62)
    _box(client, [9, 0.05, 9], [float(middle[0]), -0.05, float(middle[1])], floor, yaw)
    dark = [0.6 * c for c in wall]
    for place, half in (
        (middle + ahead * (back + 0.1), [0.1, 2.0, 9.0]),
        (middle + across * (side + 0.1), [9.0, 2.0, 0.1]),
        (middle - across * (side + 0.1), [9.0, 2.0, 0.1]),
    ):
        _box(client, half, [float(place[0]), 2.0, float(place[1])], wall, yaw)
        _box(client, [half[0] + 0.02, 0.06, half[2] + 0.02], [float(place[0]), 0.06, float(place[1])], dark, yaw)
    door = middle + ahead * back + across * rng.uniform(-0.8, 0.8) * side
    _box(client, [0.03, 1.02, 0.45], [float(door[0]), 1.02, float(door[1])], paint(0.25, 0.6), yaw)
    for _ in range(int(rng.integers(2, 6))):
        half = [float(rng.uniform(0.15, 0.4)), float(rng.uniform(0.18, 0.6)), float(rng.uniform(0.2, 0.6))]
        along = rng.uniform(-0.2, 1.0) * (back - half[0])
        spot = middle + ahead * along + across * rng.choice([-1, 1]) * rng.uniform(0.4, 1.0) * (side - half[2])
        clear = np.hypot(*(people[:, [0, 2]] - spot).T).min() > 0.45 + np.hypot(half[0], half[2])
        behind = (spot - middle) @ away > np.hypot(*(spot - middle)) * 0.2
        colour = paint(0.2, 0.75)
        if clear and behind:
            _box(client, half, [float(spot[0]), half[1], float(spot[1])], colour, yaw)
    return floor


class Stage:
    """The people of one video, and their room as a backdrop: it does not change, so it is rendered only once.

    A patch of floor under each person receives the shadow.
    """

    def __init__(self, client: Any, backdrop: Shot, floor: list[float], camera: Camera, light: Light) -> None:
        self._client, self._backdrop, self._camera, self._light = client, backdrop, camera, light
        self._shape = client.createVisualShape(
            client.GEOM_BOX, halfExtents=[0.9, _THIN, 0.9], rgbaColor=[*floor, 1.0], specularColor=[0, 0, 0]
        )
        self._patches: list[int] = []

    def shoot(self, places: Vector) -> Shot:
        """The image with people at ``places`` (P, 3)."""
        while len(self._patches) < len(places):
            self._patches.append(self._client.createMultiBody(0, -1, self._shape, [0, -_THIN, 0]))
        for patch, place in zip(self._patches, places, strict=True):
            self._client.resetBasePositionAndOrientation(
                patch, [float(place[0]), -_THIN, float(place[2])], [0, 0, 0, 1]
            )
        front, back = shoot(self._client, self._camera, self._light), self._backdrop
        near = (front.bodies >= 0) & (front.depth < back.depth + _SAME_M)
        ground = near & np.isin(front.bodies, self._patches)
        person = near & ~ground
        image = np.where(person[..., None], front.image, back.image)
        image[ground] = np.minimum(front.image, back.image)[ground]
        return Shot(image, np.where(near, front.depth, back.depth), np.where(person, front.bodies, -1).astype(np.int32))


def shoot(client: Any, camera: Camera, light: Light) -> Shot:
    """Render one image, without a GPU."""
    width, height = camera.size
    view = client.computeViewMatrix(camera.eye, camera.aim, [0, 1, 0])
    lens = client.computeProjectionMatrixFOV(camera.fov, width / height, _NEAR, _FAR)
    _, _, rgba, depth, bodies = client.getCameraImage(
        width, height, view, lens, lightDirection=light.direction, lightColor=light.colour, lightDistance=8.0,
        shadow=1, lightAmbientCoeff=light.ambient, lightDiffuseCoeff=light.diffuse, lightSpecularCoeff=0.05,
        renderer=client.ER_TINY_RENDERER,
    )  # fmt: skip
    z = np.reshape(depth, (height, width)).astype(np.float64)
    return Shot(
        np.ascontiguousarray(np.reshape(rgba, (height, width, 4))[..., :3].astype(np.uint8)),
        _FAR * _NEAR / (_FAR - (_FAR - _NEAR) * z),
        np.reshape(bodies, (height, width)).astype(np.int32),
    )
