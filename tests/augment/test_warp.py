import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from skimage import transform

from gzkern.augment.geometry import crop_matrices
from gzkern.augment.parameters import COLOUR_AXIS, Parameters, draw, identity
from gzkern.augment.warp import warp, warp_batch, warp_reference
from gzkern.config import AugmentConfig
from gzkern.errors import InputError

CASES = json.loads((Path(__file__).parents[1] / "golden" / "geometry_points.json").read_text(encoding="utf-8"))["cases"]
SIZE = (424, 424)

# float32, in units of half a last place of 1: the vertical mean errs by its fraction and its result, the horizontal one
# by its fraction, its difference and its result, then the quotient and the sum by one each.
TOLERANCE = 7 * 2.0**-25


def noise(*size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def perturbed(**values):
    fields = {"angle": 0.0, "tx": 0.0, "ty": 0.0, "flip": False, "zoom": 1.0, "colour": 0.0} | values
    return Parameters(**{name: np.array([value]) for name, value in fields.items()})


def crops_of(image, target=69, **values):
    return warp([image], crop_matrices(perturbed(**values), image.shape[:2], target), target)[0]


def by_skimage(image, matrices, target):
    """The same in float64; scikit-image's "reflect" is ``numpy.pad``'s."""
    scaled = image.astype(np.float64) / 255
    return np.stack(
        [
            transform.warp(
                scaled,
                transform.AffineTransform(np.vstack([matrix, [0, 0, 1]])),
                output_shape=(target, target),
                order=1,
                mode="reflect",
                clip=False,
                preserve_range=True,
            )
            for matrix in matrices
        ]
    )


def assert_warps(images, matrices, target):
    got = warp(images, matrices, target)
    assert got.dtype == np.float32
    assert got.shape == (len(images), 2, target, target, 3)
    for image, matrix, crops in zip(images, matrices, got, strict=True):
        expected = by_skimage(image, matrix, target)
        np.testing.assert_allclose(warp_reference(image, matrix, target), expected, rtol=0, atol=1e-11)
        np.testing.assert_allclose(crops, expected, rtol=0, atol=TOLERANCE)


def test_the_73_geometry_cases_on_white_noise():
    assert_warps([noise(*SIZE, seed=n) for n in range(73)], np.array([case["matrices"] for case in CASES]), 69)


def test_random_draws_on_white_noise():
    parameters = draw(3, np.arange(60), AugmentConfig())
    assert_warps([noise(*SIZE, seed=n) for n in range(60)], crop_matrices(parameters, SIZE), 69)


@pytest.mark.parametrize("size", [(61, 53), (53, 61), (2, 2), (2, 7), (3, 2), (424, 424)])
@pytest.mark.parametrize("target", [1, 5, 7])
def test_far_outside_of_images_of_odd_sizes(size, target):
    wild = AugmentConfig(translation=400.0, zoom=6.0)
    matrices = crop_matrices(draw(4, np.arange(12), wild), size, target, scale=11.3)
    assert_warps([noise(*size, seed=n) for n in range(12)], matrices, target)


IDENTITY = [[8, 0, 0], [0, 8, 0]]


@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    eighths=st.tuples(*[st.tuples(st.integers(-24, 24), st.integers(-24, 24), st.integers(-160, 160))] * 2),
)
@example(size=(2, 2), eighths=IDENTITY)  # on 0 and on the last pixel
@example(size=(9, 9), eighths=IDENTITY)
@example(size=(9, 9), eighths=[[-8, 0, 64], [0, -8, 64]])
@example(size=(3, 2), eighths=[[0, 0, 160], [0, 0, -160]])  # far outside
def test_an_image_goes_on_as_numpy_pad_reflects_it(size, eighths):
    """At multiples of an eighth of a pixel nothing is rounded but the quotient: equal to the last bit."""
    target, image = 9, noise(*size)
    matrices = np.array([[eighths, eighths]]) / 8
    row, column = np.indices((target, target))
    x, y = np.array(eighths) @ np.stack([column, row, np.ones_like(row)]).reshape(3, -1)
    reach = 80  # pixels: more than 2 × 3 × 8 + 20
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect").astype(np.float64)
    left, top = x // 8 + reach, y // 8 + reach
    fx, fy = (x % 8 / 8)[:, None], (y % 8 / 8)[:, None]
    upper = (1 - fx) * padded[top, left] + fx * padded[top, left + 1]
    lower = (1 - fx) * padded[top + 1, left] + fx * padded[top + 1, left + 1]
    mean = ((1 - fy) * upper + fy * lower).reshape(target, target, 3)
    expected = mean.astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(warp([image], matrices, target)[0], [expected, expected])


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(2, 30), st.integers(2, 30)),
    matrix=st.tuples(*[st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-40, 60))] * 2),
    inner=st.tuples(*[st.tuples(st.integers(-2, 2), st.integers(-2, 2), st.integers(8, 11))] * 2),
)
def test_the_composition_of_maps_is_the_product_of_matrices(size, matrix, inner):
    """A crop's crop, at some of its samples, is the crop by the product."""
    image, product = noise(*size), np.array(matrix) @ [*inner, (0, 0, 1)]
    whole, part = (warp([image], np.array([[m, m]]), n)[0, 0] for m, n in ((matrix, 20), (product, 3)))
    x, y = np.array(inner) @ np.stack([*np.indices((3, 3))[::-1], np.ones((3, 3), int)]).reshape(3, -1)
    np.testing.assert_allclose(part, whole[y, x].reshape(3, 3, 3), rtol=0, atol=2 * TOLERANCE)


def test_the_unperturbed_crop_is_the_mean_of_blocks_of_four():
    image = noise(*SIZE)
    pixels = image.astype(np.float32)
    block = pixels[109:314:3, 109:314:3] + pixels[110:315:3, 109:314:3]
    block += pixels[109:314:3, 110:315:3] + pixels[110:315:3, 110:315:3]
    np.testing.assert_array_equal(crops_of(image)[0], block / np.float32(4) / np.float32(255))


def test_symmetries():
    image = noise(*SIZE)
    plain = crops_of(image)
    np.testing.assert_array_equal(crops_of(image, flip=True)[0], plain[0][:, ::-1])
    np.testing.assert_array_equal(crops_of(image, angle=45.0)[0], plain[1])
    for quarter in range(4):
        turned = crops_of(image, angle=90.0 * quarter)
        np.testing.assert_allclose(turned[0], np.rot90(plain[0], quarter), rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(turned[1], np.rot90(plain[1], quarter), rtol=0, atol=TOLERANCE)
    turned = crops_of(image, angle=77.0, zoom=1.1)
    mirrored = crops_of(image, angle=77.0, zoom=1.1, flip=True)
    np.testing.assert_allclose(mirrored[0], turned[0][:, ::-1], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("value", [0, 1, 127, 255])
def test_a_constant_image_stays_constant(value):
    crops = crops_of(np.full((50, 40, 3), value, np.uint8), target=20, angle=33.0)
    np.testing.assert_array_equal(crops, np.full_like(crops, np.float32(value) / np.float32(255)))


@pytest.mark.parametrize("alpha", [-60.0, -0.7, 0.0, 0.4, 60.0])
def test_colour_shift_and_clip(alpha):
    image, matrices = noise(61, 53), crop_matrices(identity(1), (61, 53), 20, 2.0)
    plain = warp([image], matrices, 20)
    shift = np.float32(alpha * np.array(COLOUR_AXIS))
    got = warp([image], matrices, 20, shift[None])
    np.testing.assert_array_equal(got, np.clip(plain + shift, np.float32(0), np.float32(1)))
    np.testing.assert_allclose(got[0], warp_reference(image, matrices[0], 20, shift), rtol=0, atol=TOLERANCE)
    assert abs(alpha) < 1 or (got == (alpha < 0)).mean() > 0.3


def batch_arguments(count=3, target=7):
    images = np.stack([noise(40, 30, seed=n) for n in range(4)])
    parameters = draw(0, np.arange(count), AugmentConfig())
    return {
        "images": images,
        "indices": np.array([3, 0, 3])[:count],
        "matrices": crop_matrices(parameters, (40, 30), target),
        "shifts": np.multiply.outer(parameters.colour, COLOUR_AXIS).astype(np.float32),
        "out": np.empty((count, 2, target, target, 3), np.float32),
    }


def test_a_batch_gathers_and_writes_nothing_else():
    arguments = batch_arguments()
    kept = {name: array.copy() for name, array in arguments.items()}
    guarded = np.full((5, *arguments["out"].shape[1:]), np.float32(-7))
    warp_batch(**arguments | {"out": guarded[1:4]})
    assert (guarded[[0, 4]] == -7).all()
    for b, index in enumerate(arguments["indices"]):
        expected = warp_reference(arguments["images"][index], arguments["matrices"][b], 7, arguments["shifts"][b])
        np.testing.assert_allclose(guarded[b + 1], expected, rtol=0, atol=TOLERANCE)
    for name in ("images", "indices", "matrices", "shifts"):
        np.testing.assert_array_equal(arguments[name], kept[name])


def test_a_read_only_memory_map_takes_the_same_code(tmp_path):
    from gzkern.augment.jit import warp_images

    arguments = batch_arguments()
    warp_batch(**arguments)
    np.save(tmp_path / "images.npy", arguments["images"])
    mapped = arguments | {
        "images": np.load(tmp_path / "images.npy", mmap_mode="r"),
        "out": np.empty_like(arguments["out"]),
    }
    warp_batch(**mapped)
    np.testing.assert_array_equal(mapped["out"], arguments["out"])
    assert len(warp_images.signatures) == 1


def test_images_of_different_sizes():
    images = [noise(424, 424), noise(30, 90), noise(80, 31)[::-1]]
    parameters = draw(8, np.arange(3), AugmentConfig())
    matrices = np.concatenate(
        [crop_matrices(parameters, image.shape[:2], 11)[b : b + 1] for b, image in enumerate(images)]
    )
    assert_warps(images, matrices, 11)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((4, 40, 30), np.uint8)}, r"warp: images has shape \(4, 40, 30\)"),
        ({"images": np.zeros((4, 40, 30, 3), np.float32)}, "images is float32 .* expected uint8"),
        ({"images": np.zeros((8, 40, 30, 3), np.uint8)[::2]}, "images is uint8 with strides .* C-contiguous"),
        ({"images": np.zeros((4, 1, 30, 3), np.uint8)}, "expected at least 2 × 2 pixels"),
        ({"indices": np.array([0, 4, 1])}, "indices has the entry 4, expected 0 to 3"),
        ({"indices": np.array([0, -1, 1])}, "indices has the entry -1, expected 0 to 3"),
        ({"matrices": np.zeros((2, 2, 2, 3))}, r"matrices has shape \(2, 2, 2, 3\), expected \(3, 2, 2, 3\)"),
        ({"matrices": np.full((3, 2, 2, 3), -1e12)}, "matrices has the entry -10000"),
        ({"shifts": np.zeros((3, 2), np.float32)}, r"shifts has shape \(3, 2\), expected \(3, 3\)"),
        ({"shifts": np.zeros((3, 3))}, "shifts is float64 .* expected float32"),
        ({"out": np.zeros((3, 2, 7, 9, 3), np.float32)}, r"out has shape \(3, 2, 7, 9, 3\)"),
        ({"out": np.zeros((3, 2, 7, 7, 3))}, "out is float64 .* expected float32"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        warp_batch(**batch_arguments() | change)


@pytest.mark.parametrize("place", list(np.ndindex(2, 2, 3)))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2.0**30])
def test_one_entry_that_is_no_number_of_pixels_is_refused(place, value):
    arguments = batch_arguments()
    arguments["matrices"][(1, *place)] = value
    arguments["out"][:] = -7
    with pytest.raises(InputError, match=f"warp: matrices has the entry {value}, expected numbers up to 2"):
        warp_batch(**arguments)
    assert (arguments["out"] == -7).all()


def test_no_images():
    assert warp([], np.empty((0, 2, 2, 3)), 7).shape == (0, 2, 7, 7, 3)
    warp_batch(**batch_arguments(count=0))


def run_python(code, **environment):
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | environment,
    )


def test_no_byte_outside_of_the_images_is_read_or_written(tmp_path):
    """Compiled with bounds checks, and with pages around the arrays that must not be touched.

    A byte read in vain, with weight 0, would leave the values right.
    """
    code = """if True:
        import ctypes, mmap
        import numpy as np
        from gzkern.augment import geometry, parameters, warp
        from gzkern.config import AugmentConfig

        PAGE, protect = mmap.PAGESIZE, ctypes.CDLL(None, use_errno=True).mprotect

        def fenced(shape, dtype, at_end):
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            pages = 2 + -(-size // PAGE)
            memory = mmap.mmap(-1, pages * PAGE)
            address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            for page in (0, pages - 1):
                assert protect(ctypes.c_void_p(address + page * PAGE), ctypes.c_size_t(PAGE), 0) == 0
            first = (pages - 1) * PAGE - size if at_end else PAGE
            return np.frombuffer(memory, dtype, int(np.prod(shape)), first).reshape(shape)

        for height, width in [(9, 9), (2, 2), (2, 5), (31, 20)]:
            grid = np.broadcast_to([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], (40, 2, 2, 3))
            wild = parameters.draw(0, np.arange(40), AugmentConfig(translation=300.0, zoom=5.0))
            drawn = geometry.crop_matrices(wild, (height, width), 9)
            for at_end in (True, False):
                images = fenced((40, height, width, 3), np.uint8, at_end)
                out = fenced((40, 2, 9, 9, 3), np.float32, at_end)
                for matrices in (grid, -grid, drawn, grid * 2.0**29 - 2.0**28):
                    warp.warp_batch(images, np.arange(40), matrices, np.zeros((40, 3), np.float32), out)
    """
    run_python(code, NUMBA_BOUNDSCHECK="1", NUMBA_CACHE_DIR=str(tmp_path))


def test_the_first_start_on_a_machine_says_that_it_compiles(tmp_path):
    code = """if True:
        import numpy as np
        from gzkern.augment import warp
        for _ in range(2):
            warp.warp([np.zeros((9, 9, 3), np.uint8)], np.zeros((1, 2, 2, 3)), 3)
    """
    run = [sys.executable, "-c", code]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (subprocess.run(run, capture_output=True, text=True, check=True, env=environment) for _ in range(2))
    assert first.stderr.splitlines() == ["gzkern: compiling for this machine, once; it takes up to a minute"]
    assert second.stderr == ""


def test_numba_is_imported_at_the_first_warp():
    code = """if True:
        import sys
        import numpy as np
        from gzkern.augment import geometry, parameters, pool, warp
        assert "numba" not in sys.modules
        matrices = geometry.crop_matrices(parameters.identity(1), (9, 9), 3)
        warp.warp(np.zeros((1, 9, 9, 3), np.uint8), matrices, 3)
        assert "numba" in sys.modules
    """
    run_python(code)
