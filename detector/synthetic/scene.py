"""A drawn street for the event simulator: cars and pedestrians in front of a panning background.

Images are grey, with intensities from about 0.05 to 1. Nearer objects are larger, are lower in the frame and occlude
objects behind them. Sizes and speeds are defined for frames of 160 x 120 pixels and scale with the frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from detector.synthetic.sprites import CAR, PEDESTRIAN, draw_background, draw_car, draw_pedestrian

__all__ = ["Scene", "SceneObject", "make_scene"]

SPEED = {PEDESTRIAN: (16.0, 32.0), CAR: (25.0, 60.0)}
"""Range of speeds in pixels per second. Objects are faster than the background, so every object crosses the frame."""

ARRIVAL_S = {PEDESTRIAN: 3.0, CAR: 2.2}
"""Mean time in seconds between two arrivals of objects of a class."""

PAN_SPEED = (4.0, 8.0)
PAN_S, PAUSE_S = (2.0, 3.5), (2.0, 2.6)
"""Ranges of the durations in seconds of a pan and of a stop of the camera."""

STOP_S = (1.2, 1.7)
MAY_STOP = 0.6
"""Share of the objects that stop if they are in the frame when the camera stops. In total, about a third do stop."""

RAMP_S = 0.2
"""Time in seconds that an object or the camera needs to stop or to start."""


@dataclass(frozen=True)
class SceneObject:
    """Appearance of an object, and its position at every moment (time step of the scene) at which it exists.

    Args:
        class_id: label map id.
        track_id: number of the object in its recording.
        sprite: (P, 2, h, w) drawings for P phases of the walking cycle; P = 1 for cars. The two channels are intensity
            times opacity, and opacity.
        depth: depth from 0 (far) to 1 (near).
        first: index of the first moment at which the object exists.
        x: (n,) x of the left edge in pixels at the moments first, first + 1, ...
        y: (n,) y of the top edge in pixels at the same moments.
        phase: (n,) phase of the walking cycle at the same moments; it grows or falls by 1 per cycle.
        stops: whether the object stops for a while.
    """

    class_id: int
    track_id: int
    sprite: np.ndarray
    depth: float
    first: int
    x: np.ndarray
    y: np.ndarray
    phase: np.ndarray
    stops: bool

    def drawing(self, age: int) -> np.ndarray:
        """Return the (2, h, w) drawing of the object `age` moments after its first moment."""
        count = len(self.sprite)
        if count == 1:
            return self.sprite[0]
        phase = self.phase[age] * count
        before = int(np.floor(phase))
        weight = np.float32(phase - before)
        first, second = self.sprite[before % count], self.sprite[(before + 1) % count]
        return first + weight * (second - first)


@dataclass(frozen=True)
class Scene:
    """A street over time, rendered at equally spaced moments.

    Args:
        height: frame height in pixels.
        width: frame width in pixels.
        background: (height, P) intensity of the background, which repeats along x after P pixels.
        pan: (n,) position of the left edge of the frame on the background, in pixels, for each moment.
        objects: all objects, from far to near.
    """

    height: int
    width: int
    background: np.ndarray
    pan: np.ndarray
    objects: tuple[SceneObject, ...]

    def present(self, moment: int) -> Iterator[tuple[int, SceneObject, int]]:
        """Iterate over the objects that exist at a moment, from far to near.

        Yields:
            Index of the object in `objects`, the object, and the number of moments since its first moment.
        """
        for index, thing in enumerate(self.objects):
            if 0 <= moment - thing.first < len(thing.x):
                yield index, thing, moment - thing.first

    def render(self, moment: int) -> np.ndarray:
        """Render the image at a moment as (height, width) float32 intensity."""
        left = int(np.floor(self.pan[moment]))
        columns = np.arange(left, left + self.width + 1) % self.background.shape[1]
        strip = self.background[:, columns]
        image = _lerp(strip[:, :-1], strip[:, 1:], self.pan[moment] - left)
        for _, thing, age in self.present(moment):
            self._paint(image, thing.drawing(age), thing.x[age], thing.y[age])
        return image

    def _paint(self, image: np.ndarray, drawing: np.ndarray, x: float, y: float) -> None:
        left, top = int(np.floor(x)), int(np.floor(y))
        padded = np.zeros((2, drawing.shape[1] + 2, drawing.shape[2] + 2), np.float32)
        padded[:, 1:-1, 1:-1] = drawing
        shifted = _lerp(padded[:, :, 1:], padded[:, :, :-1], x - left)
        shifted = _lerp(shifted[:, 1:], shifted[:, :-1], y - top)
        rows, sprite_rows = _intersect(top, shifted.shape[1], self.height)
        columns, sprite_columns = _intersect(left, shifted.shape[2], self.width)
        light, opacity = shifted[:, sprite_rows, sprite_columns]
        region = image[rows, columns]
        region *= 1 - opacity
        region += light

    def visible_fractions(self, moment: int) -> dict[int, float]:
        """Compute the visible share of the silhouette of each object that exists at a moment.

        Visible parts are inside the frame and not occluded.

        Returns:
            Dict from the index of an object in `objects` to its visible share.
        """
        owner = np.full((self.height, self.width), -1)
        total = {}
        for index, thing, age in self.present(moment):
            mask = thing.drawing(age)[1] > 0.5
            rows, mask_rows = _intersect(round(float(thing.y[age])), mask.shape[0], self.height)
            columns, mask_columns = _intersect(round(float(thing.x[age])), mask.shape[1], self.width)
            owner[rows, columns][mask[mask_rows, mask_columns]] = index
            total[index] = np.count_nonzero(mask)
        visible = np.bincount(owner.ravel() + 1, minlength=len(self.objects) + 1)[1:]
        return {index: float(visible[index] / count) for index, count in total.items()}


def make_scene(rng: np.random.Generator, num_moments: int, rate_hz: float, height: int, width: int) -> Scene:
    """Create a random street scene.

    Args:
        rng: source of randomness.
        num_moments: number of moments.
        rate_hz: moments per second.
        height: frame height in pixels.
        width: frame width in pixels.

    Returns:
        The scene. The `track_id` of its objects follows the order of their arrival.
    """
    stage = _plan_camera(rng, num_moments, rate_hz, height, width)
    arrivals = sorted(arrival for class_id in SPEED for arrival in _plan_arrivals(rng, class_id, stage))
    may_stop = rng.permutation(len(arrivals)) < MAY_STOP * len(arrivals)
    objects = [_plan_object(rng, stage, key, arrivals[key], bool(may_stop[key])) for key in range(len(arrivals))]
    objects.sort(key=lambda thing: thing.depth)
    return Scene(height, width, draw_background(rng, height, 2 * width), stage.pan, tuple(objects))


@dataclass(frozen=True)
class _Stage:
    """Frame and camera of a scene.

    Args:
        height: frame height in pixels.
        width: frame width in pixels.
        rate_hz: moments per second.
        pan: (n,) position of the left edge of the frame on the background, in pixels, for each moment.
        rests: first moment and end (exclusive) of each stop of the camera.
    """

    height: int
    width: int
    rate_hz: float
    pan: np.ndarray
    rests: tuple[tuple[int, int], ...]

    @property
    def scale(self) -> float:
        return min(self.height / 120, self.width / 160)


def _plan_camera(rng: np.random.Generator, num_moments: int, rate_hz: float, height: int, width: int) -> _Stage:
    """Create the frame and a camera that alternates between pans and stops."""
    speed = np.zeros(num_moments)
    rests = []
    moment, turning = 0, bool(rng.integers(2))
    while moment < num_moments:
        end = moment + round(rng.uniform(*(PAN_S if turning else PAUSE_S)) * rate_hz)
        if turning:
            speed[moment:end] = rng.choice([-1, 1]) * rng.uniform(*PAN_SPEED)
        else:
            rests.append((moment, min(end, num_moments)))
        moment, turning = end, not turning
    stage = _Stage(height, width, rate_hz, speed, tuple(rests))
    window = round(RAMP_S * rate_hz)
    # A mean over previous moments, because the camera needs RAMP_S to stop and to start.
    smooth = np.convolve(speed, np.full(window, 1 / window))[:num_moments]
    return _Stage(height, width, rate_hz, np.cumsum(smooth) * stage.scale / rate_hz, stage.rests)


def _plan_arrivals(rng: np.random.Generator, class_id: int, stage: _Stage) -> list[tuple[int, int, bool]]:
    """Plan when the objects of one class appear.

    Returns:
        For each object, its first moment, its class, and whether it is inside the frame at this moment.
    """
    arrivals = [(0, class_id, True)] * int(rng.integers(1, 3))
    moment = 0.0
    while (moment := moment + rng.exponential(ARRIVAL_S[class_id]) * stage.rate_hz) < len(stage.pan) - 1:
        arrivals.append((int(moment), class_id, False))
    return arrivals


def _plan_object(
    rng: np.random.Generator, stage: _Stage, track_id: int, arrival: tuple[int, int, bool], may_stop: bool
) -> SceneObject:
    """Create an object that crosses the frame at a random speed.

    Args:
        rng: source of randomness.
        stage: frame and camera.
        track_id: number of the object in its recording.
        arrival: first moment of the object, its class, and whether it is inside the frame at this moment.
        may_stop: whether the object stops at a stop of the camera if it is in the frame then.
    """
    first, class_id, inside = arrival
    depth = rng.uniform()
    direction = int(rng.choice([-1, 1]))
    if class_id == CAR:
        sprite = draw_car(rng, depth, stage.scale, direction)
    else:
        sprite = draw_pedestrian(rng, depth, stage.scale)
    height, width = sprite.shape[2:]
    speed = rng.uniform(*SPEED[class_id]) * stage.scale
    start = rng.uniform(-0.3 * width, stage.width - 0.7 * width) if inside else (-width, stage.width)[direction < 0]

    drift = stage.pan[first:] - stage.pan[first]
    pace = np.full(len(drift), 1.0)
    x = start + direction * _travel(pace, speed / stage.rate_hz) - drift
    rest = _find_rest(x, width, first, stage) if may_stop else None
    if rest is not None:
        begin, ramp = rest - first, RAMP_S * stage.rate_hz
        end = begin + rng.uniform(*STOP_S) * stage.rate_hz
        pace = np.interp(np.arange(len(drift)), [begin - ramp, begin, end, end + ramp], [1, 0, 0, 1])
        x = start + direction * _travel(pace, speed / stage.rate_hz) - drift
    distance = _travel(pace, speed / stage.rate_hz)
    outside = np.flatnonzero((x < -width) | (x > stage.width))
    life = int(outside[0]) if len(outside) else len(x)

    phase = rng.uniform() + direction * distance / (0.8 * height)
    ground = stage.height * (0.42 + 0.53 * depth)
    y = ground - height + rng.uniform(-0.05, 0.05) * distance
    if class_id == PEDESTRIAN:
        y = y - 0.012 * height * np.abs(np.sin(2 * np.pi * phase))  # the body rises while the legs pass each other
    return SceneObject(class_id, track_id, sprite, depth, first, x[:life], y[:life], phase[:life], rest is not None)


def _travel(pace: np.ndarray, step: float) -> np.ndarray:
    """Compute the distance in pixels between the start of an object and its position at each moment, shape (n,).

    Args:
        pace: (n,) speed at each moment, relative to the full speed.
        step: pixels per moment at full speed.
    """
    return np.concatenate([[0.0], np.cumsum(pace[:-1])]) * step


def _find_rest(x: np.ndarray, width: int, first: int, stage: _Stage) -> int | None:
    """Find the first stop of the camera at which most of an object is in the frame.

    Args:
        x: left edge of the object in pixels at each moment since `first`.
        width: width of the object in pixels.
        first: first moment of the object.
        stage: frame and camera.

    Returns:
        The moment at which the camera has come to rest; None if there is no such stop.
    """
    for begin, end in stage.rests:
        moment = begin + round(RAMP_S * stage.rate_hz)
        if first + RAMP_S * stage.rate_hz < moment < min(end, first + len(x)):
            inside = min(x[moment - first] + width, stage.width) - max(x[moment - first], 0)
            if inside > 0.7 * width:
                return moment
    return None


def _intersect(start: int, length: int, limit: int) -> tuple[slice, slice]:
    """Intersect [start, start + length) with [0, limit).

    Returns:
        The intersection as a slice, and the same slice relative to `start`.
    """
    low = min(max(start, 0), limit)
    high = max(min(start + length, limit), low)
    return slice(low, high), slice(low - start, high - start)


def _lerp(first: np.ndarray, second: np.ndarray, weight: float) -> np.ndarray:
    return first + np.float32(weight) * (second - first)
