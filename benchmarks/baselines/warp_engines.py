"""Engines that warp an image on the CPU: ours and those of other libraries; each does the same work.

From (H, W, 3) uint8 to both crops (2, T, T, 3) float32 in [0, 1], bilinear, mirrored at the border, colours shifted and
clipped. Every engine is told to take one thread; the benchmark runs several of them at a time.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np

from gzkern.augment.warp import warp_batch
from gzkern.errors import InputError

Warp = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray], None]
"""Called as ``gzkern.augment.warp.warp_batch`` is: images, indices, matrices, shifts, out."""

_Crop = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""A crop (T, T, 3), in [0, 1], of an image (H, W, 3) uint8, by a matrix (2, 3)."""

ERRORS = {"gzkern": 1e-6, "scipy": 1e-6, "skimage": 1e-3, "opencv": 1e-3, "torch": 1e-3}
"""Allowed of a sample of white noise: the last three compute positions in float32, scikit-image where it is fastest."""


def _each(crop: _Crop) -> Warp:
    """Image by image and crop by crop."""

    def warp(
        images: np.ndarray, indices: np.ndarray, matrices: np.ndarray, shifts: np.ndarray, out: np.ndarray
    ) -> None:
        for b, index in enumerate(indices):
            for k in range(2):
                np.add(crop(images[index], matrices[b, k], out.shape[2]), shifts[b], out=out[b, k])
            np.clip(out[b], 0, 1, out=out[b])

    return warp


def _skimage() -> Warp:
    transform = importlib.import_module("skimage.transform")

    def crop(image: np.ndarray, matrix: np.ndarray, target: int) -> np.ndarray:
        affine = transform.AffineTransform(np.vstack([matrix, [0, 0, 1]]))
        scaled = image.astype(np.float32) / np.float32(255)
        return transform.warp(scaled, affine, output_shape=(target, target), order=1, mode="reflect", clip=False)

    return _each(crop)


def _scipy() -> Warp:
    ndimage = importlib.import_module("scipy.ndimage")

    def crop(image: np.ndarray, matrix: np.ndarray, target: int) -> np.ndarray:
        rows, columns = matrix[::-1, 1::-1], matrix[::-1, 2]  # (row, column) in the place of (x, y)
        samples = np.empty((target, target, 3), np.float32)
        for channel in range(3):
            ndimage.affine_transform(
                image[..., channel], rows, columns, (target, target), samples[..., channel], order=1, mode="mirror",
                prefilter=False,
            )  # fmt: skip
        return samples / np.float32(255)

    return _each(crop)


def _opencv() -> Warp:
    cv2 = importlib.import_module("cv2")
    cv2.setNumThreads(1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

    def warp(
        images: np.ndarray, indices: np.ndarray, matrices: np.ndarray, shifts: np.ndarray, out: np.ndarray
    ) -> None:
        size = out.shape[2:4]
        for b, index in enumerate(indices):
            image = images[index].astype(np.float32)  # of bytes it makes bytes, off by up to half a grey level
            for k in range(2):
                samples = cv2.warpAffine(image, matrices[b, k], size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
                np.add(samples * np.float32(1 / 255), shifts[b], out=out[b, k])
            np.clip(out[b], 0, 1, out=out[b])

    return warp


def _torch() -> Warp:
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)

    def warp(
        images: np.ndarray, indices: np.ndarray, matrices: np.ndarray, shifts: np.ndarray, out: np.ndarray
    ) -> None:
        height, width, target = images.shape[1], images.shape[2], out.shape[2]
        grid = np.indices((target, target), np.float64)[::-1].reshape(2, -1)  # columns, rows
        sizes = np.array([[width - 1.0], [height - 1.0]])
        for b, index in enumerate(indices):
            image = torch.tensor(images[index]).permute(2, 0, 1).float()[None]
            positions = (matrices[b, :, :, :2] @ grid + matrices[b, :, :, 2:]) * (2 / sizes) - 1
            at = torch.from_numpy(positions.swapaxes(1, 2).reshape(1, 2 * target, target, 2).astype(np.float32))
            samples = torch.nn.functional.grid_sample(image, at, padding_mode="reflection", align_corners=True)
            crops = samples[0].permute(1, 2, 0).reshape(2, target, target, 3).numpy()
            np.add(crops * np.float32(1 / 255), shifts[b], out=out[b])
            np.clip(out[b], 0, 1, out=out[b])

    return warp


BASELINES: dict[str, tuple[str, Callable[[], Warp]]] = {
    "skimage": ("scikit-image", _skimage),
    "opencv": ("opencv-python-headless", _opencv),
    "scipy": ("scipy", _scipy),
    "torch": ("torch", _torch),
}
"""Package, and what makes the engine, by name."""


def engine(name: str) -> Warp:
    """Return an engine by its name, "gzkern" among them.

    Raises:
        InputError: its package is not installed.
    """
    if name == "gzkern":
        return warp_batch
    package, make = BASELINES[name]
    try:
        return make()
    except ImportError:
        raise InputError(f"--baseline {name}: needs {package}; pip install {package}, or leave it out") from None
