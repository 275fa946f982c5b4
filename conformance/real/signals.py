"""Inputs for the packages: the same values on every machine."""

import numpy as np


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Normally distributed values."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def plucked_string(samples: int, rate: int, frequency: float) -> np.ndarray:
    """The string of Karplus and Strong (1983): a burst of noise in a delay line that averages two neighbours.

    Recording noise of a thousandth of the loudest sample is added. Without it a string has bands without any energy, whose
    logarithms differ between two fp32 implementations by more than the comparison allows.
    """
    period = round(rate / frequency)
    line = list(np.random.default_rng(1).uniform(-1, 1, period))
    out = np.empty(samples, np.float32)
    for i in range(samples):
        out[i] = line[i % period]
        line[i % period] = 0.498 * (line[i % period] + line[(i + 1) % period])
    return out + 1e-3 * noise((samples,), seed=4)


def frames(audio: np.ndarray, length: int) -> np.ndarray:
    """Frames of `length` samples, each with mean 0 and standard deviation 1, as CREPE expects them."""
    cut = audio[: len(audio) // length * length].reshape(-1, length)
    cut = cut - cut.mean(1, keepdims=True)
    return (cut / np.maximum(cut.std(1, keepdims=True), 1e-10)).astype(np.float32)


def picture(height: int, width: int) -> np.ndarray:
    """A picture of bytes, `[height, width, 3]`: smooth colours with an edge and some grain."""
    y, x = np.mgrid[0:height, 0:width]
    colours = np.stack([x / width, y / height, (x + y) / (width + height)], -1)
    colours[(x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2] *= 0.3
    grain = np.random.default_rng(2).uniform(-0.05, 0.05, colours.shape)
    return np.clip(255 * (colours + grain), 0, 255).round().astype(np.uint8)
