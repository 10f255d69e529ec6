"""Grey drawings of cars, pedestrians and streets for the synthetic scenes."""

import numpy as np

__all__ = ["CAR", "PEDESTRIAN", "draw_background", "draw_car", "draw_pedestrian"]

PEDESTRIAN, CAR = 0, 1
"""Label map ids of the two classes."""

GAIT_PHASES = 24
"""Number of drawings in one walking cycle."""

SAMPLES = 3
"""Number of samples per pixel along each axis. Several samples smooth the edges of shapes."""


class _Canvas:
    """A canvas on which shapes are painted over one another, with several samples per pixel.

    Coordinates are in pixels. A shape is a boolean mask with one value per sample.
    """

    def __init__(self, height: int, width: int) -> None:
        self.shape = height, width
        self.y, self.x = ((np.mgrid[: height * SAMPLES, : width * SAMPLES] + 0.5) / SAMPLES).astype(np.float32)
        self.light = np.zeros_like(self.x)
        self.opacity = np.zeros_like(self.x)

    def paint(self, mask: np.ndarray, light: float | np.ndarray) -> None:
        """Paint the samples in `mask` with an intensity, or with a texture of one intensity per pixel of the canvas."""
        if isinstance(light, np.ndarray):
            light = light.repeat(SAMPLES, 0).repeat(SAMPLES, 1)[mask]
        self.light[mask] = light
        self.opacity[mask] = 1

    def disc(self, x: float, y: float, radius: float) -> np.ndarray:
        return (self.x - x) ** 2 + (self.y - y) ** 2 <= radius**2

    def limb(self, start: tuple[float, float], end: tuple[float, float], radius: float) -> np.ndarray:
        """Return the mask of a line with round ends; `radius` is half the thickness of the line."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        along = ((self.x - start[0]) * dx + (self.y - start[1]) * dy) / max(dx * dx + dy * dy, 1e-6)
        along = np.clip(along, 0, 1)
        return (self.x - start[0] - along * dx) ** 2 + (self.y - start[1] - along * dy) ** 2 <= radius**2

    def trapezoid(self, y: tuple[float, float], top: tuple[float, float], bottom: tuple[float, float]) -> np.ndarray:
        """Return the mask of a trapezoid.

        Args:
            y: top and bottom y.
            top: left and right x at the top.
            bottom: left and right x at the bottom.
        """
        down = (self.y - y[0]) / (y[1] - y[0])
        left = top[0] + down * (bottom[0] - top[0])
        right = top[1] + down * (bottom[1] - top[1])
        return (down >= 0) & (down <= 1) & (self.x >= left) & (self.x <= right)

    def finish(self) -> np.ndarray:
        """Return the drawing as (2, h, w) float32 with two channels: intensity times opacity, and opacity."""
        height, width = self.shape
        both = np.stack([self.light * self.opacity, self.opacity])
        return both.reshape(2, height, SAMPLES, width, SAMPLES).mean((2, 4), dtype=np.float32)


def draw_car(rng: np.random.Generator, depth: float, scale: float, direction: int) -> np.ndarray:
    """Draw a car from the side: textured body, windows, lamps, wheels.

    Args:
        rng: source of randomness.
        depth: depth from 0 (far, small) to 1 (near, large).
        scale: size of the frame relative to 160 x 120 pixels.
        direction: 1 if it drives to the right, -1 to the left.

    Returns:
        (1, 2, h, w) float32 with two channels: intensity times opacity, and opacity.
    """
    height = round((15 + 15 * depth) * scale)
    width = round(height * rng.uniform(1.8, 2.1))
    body = _bright_or_dark(rng)
    glass = 0.12 if body > 0.4 else 0.75
    canvas = _Canvas(height, width)
    texture = _textured(rng, body, height, width, 1.5 * scale)

    def at(y: float) -> float:
        return y * height

    def across(left: float, right: float) -> tuple[float, float]:
        return left * width, right * width

    canvas.paint(canvas.trapezoid((0, at(0.5)), across(0.26, 0.66), across(0.12, 0.84)), texture)
    canvas.paint(canvas.limb((at(0.2), at(0.62)), (width - at(0.2), at(0.62)), at(0.2)), texture)
    canvas.paint(canvas.trapezoid((at(0.42), at(0.82)), across(0.03, 0.97), across(0, 1)), texture)
    canvas.paint(canvas.trapezoid((at(0.1), at(0.42)), across(0.29, 0.44), across(0.2, 0.44)), glass)
    canvas.paint(canvas.trapezoid((at(0.1), at(0.42)), across(0.49, 0.63), across(0.49, 0.75)), glass)
    canvas.paint(canvas.trapezoid((at(0.5), at(0.6)), across(0.92, 0.99), across(0.92, 0.99)), 1.0)
    for wheel in (0.2, 0.8):
        canvas.paint(canvas.disc(wheel * width, at(0.8), at(0.2)), 0.06)
        canvas.paint(canvas.disc(wheel * width, at(0.8), at(0.09)), 0.6)
    sprite = canvas.finish()[None]
    return sprite if direction > 0 else sprite[..., ::-1].copy()


def draw_pedestrian(rng: np.random.Generator, depth: float, scale: float) -> np.ndarray:
    """Draw a walking person from the side: head, textured body, swinging arms and legs.

    Args:
        rng: source of randomness.
        depth: depth from 0 (far, small) to 1 (near, large).
        scale: size of the frame relative to 160 x 120 pixels.

    Returns:
        (GAIT_PHASES, 2, h, w) float32, one walking cycle with two channels: intensity times opacity, and opacity.
    """
    height = round((24 + 20 * depth) * scale)
    width = round(height * rng.uniform(0.40, 0.44))
    coat, trousers = _bright_or_dark(rng), _bright_or_dark(rng)
    texture = _textured(rng, coat, height, width, 1.2 * scale)
    phases = []
    for angle in 2 * np.pi * np.arange(GAIT_PHASES) / GAIT_PHASES:
        canvas = _Canvas(height, width)
        _paint_walker(canvas, float(np.sin(angle)), float(np.cos(angle)), texture, trousers)
        phases.append(canvas.finish())
    return np.stack(phases)


def _paint_walker(canvas: _Canvas, swing: float, advance: float, coat: np.ndarray, trousers: float) -> None:
    """Draw one phase of the walking cycle.

    Args:
        canvas: canvas to draw on.
        swing: horizontal position of the near foot relative to the body, from -1 (left) to 1 (right).
        advance: which foot is lifted and how far, from -1 to 1: the near foot above 0, the far foot below 0.
        coat: texture of the body and the arms.
        trousers: intensity of the legs.
    """
    height, width = canvas.shape
    middle, hip, shoulder = width / 2, 0.52 * height, 0.24 * height
    thick = 0.075 * height
    stride = (middle - thick) * swing
    reach = 0.9 * stride

    def foot(side: int) -> tuple[float, float]:
        return middle + side * stride, height - thick - 0.06 * height * max(0.0, side * advance)

    canvas.paint(canvas.limb((middle, shoulder), (middle + reach, hip), 0.05 * height), coat * 0.6)
    canvas.paint(canvas.limb((middle, hip), foot(-1), thick), trousers * 0.7)
    canvas.paint(canvas.limb((middle, hip), foot(1), thick), trousers)
    canvas.paint(canvas.limb((middle, shoulder + 0.02 * height), (middle, hip), 0.13 * height), coat)
    canvas.paint(canvas.limb((middle, shoulder), (middle - reach, hip), 0.05 * height), coat * 0.75)
    canvas.paint(canvas.disc(middle, 0.085 * height, 0.085 * height), 0.7)


def draw_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw a street: sky, houses with windows, ground, lane marks, trees and posts.

    Args:
        rng: source of randomness.
        height: height in pixels.
        width: width of one period in pixels.

    Returns:
        (height, width) float32 intensity, periodic along x.
    """
    scale = height / 120
    horizon = round(0.38 * height)
    image = np.full((height, width), 0.55)
    for left in np.arange(0, width, 28 * scale):
        columns = np.arange(left, left + rng.uniform(18, 34) * scale, dtype=int) % width
        top = round(rng.uniform(0.02, 0.25) * height)
        image[top:horizon, columns] = rng.uniform(0.25, 0.6)
        pitch, light = max(2, round(rng.uniform(6, 9) * scale)), rng.uniform(0.3, 0.7)
        for row in range(top + pitch // 2, horizon - pitch // 2, pitch):
            image[row : row + pitch // 2, columns[np.arange(len(columns)) % pitch > pitch // 2]] = light
    image[horizon:] = rng.uniform(0.3, 0.45)
    image[round(0.72 * height) : round(0.74 * height), np.arange(width) % (20 * scale) < 9 * scale] = 0.7
    for _ in range(5):
        _plant(rng, image, horizon, scale)
    soft = image + np.roll(image, 1, axis=1) + np.roll(image, -1, axis=1)
    texture = 0.12 * smooth_noise(rng, height, width, 1.5 * scale) + 0.12 * smooth_noise(rng, height, width, 6 * scale)
    return np.clip(soft / 3 * np.exp(texture), 0.05, 1).astype(np.float32)


def _plant(rng: np.random.Generator, image: np.ndarray, horizon: int, scale: float) -> None:
    """Draw a post or a tree at a random place into `image`. It is upright like a pedestrian, but has no label.

    Args:
        rng: source of randomness.
        image: (height, width) intensity of the street, changed in place.
        horizon: row at which the ground begins.
        scale: size of the frame relative to 160 x 120 pixels.
    """
    x, tree = int(rng.integers(image.shape[1])), rng.uniform() < 0.5
    foot = horizon + round(rng.uniform(2, 14) * scale)
    trunk = (x + np.arange(max(1, round(rng.uniform(2, 4) * scale)))) % image.shape[1]
    image[foot - round(34 * scale) : foot, trunk] = rng.uniform(0.15, 0.3)
    if tree:
        rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
        aside = (columns - x + image.shape[1] // 2) % image.shape[1] - image.shape[1] // 2
        image[aside**2 + (rows - foot + 30 * scale) ** 2 < (rng.uniform(7, 11) * scale) ** 2] = 0.22


def smooth_noise(rng: np.random.Generator, height: int, width: int, blur: float) -> np.ndarray:
    """Generate (height, width) Gaussian noise with mean 0 and standard deviation 1.

    The noise is periodic in both directions and smoothed by a Gaussian with a standard deviation of `blur` pixels.
    """
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) * np.exp(-2 * (np.pi * blur * frequency) ** 2)
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, (height, width))
    return noise / max(float(noise.std()), 1e-9)


def _textured(rng: np.random.Generator, level: float, height: int, width: int, blur: float) -> np.ndarray:
    return np.clip(level * np.exp(0.4 * smooth_noise(rng, height, width, blur)), 0.05, 1)


def _bright_or_dark(rng: np.random.Generator) -> float:
    """Return a random intensity that is darker or brighter than the street."""
    return float(rng.uniform(0.10, 0.22) if rng.uniform() < 0.5 else rng.uniform(0.65, 0.95))
