"""Structural similarity of two pictures (Wang, Bovik, Sheikh, Simoncelli 2004), of their brightness."""

import numpy as np
from numpy.typing import NDArray

BLOCK = 8
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Of two planes of one shape, over blocks of 8x8 that do not overlap; 1: they are the same."""
    a, b = _blocks(one), _blocks(other)
    mean_a, mean_b = a.mean(axis=1), b.mean(axis=1)
    var_a, var_b = a.var(axis=1), b.var(axis=1)
    covariance = (a * b).mean(axis=1) - mean_a * mean_b
    of_means = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return float((of_means * (2 * covariance + _C2) / (var_a + var_b + _C2)).mean())


def _blocks(plane: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(count, 64)."""
    rows, columns = (side // BLOCK for side in plane.shape)
    cut = plane[: rows * BLOCK, : columns * BLOCK].astype(np.float64)
    parts = cut.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2)
    return parts.reshape(rows * columns, BLOCK * BLOCK)
