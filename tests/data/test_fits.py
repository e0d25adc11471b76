import builtins
import gzip
import subprocess
import sys

import numpy as np
import pytest
from data_files import SIDE, real_sample
from PIL import Image

from gzkern.data import fits
from gzkern.data.fits import stretch
from gzkern.data.images import decode
from gzkern.errors import ImageError

io_fits = pytest.importorskip("astropy.io.fits")
pytest.importorskip("sep")

SKY = 3
"""The grey that the sky becomes."""


def galaxy(width=SIDE, height=SIDE, peak=200, noise=1.0, colours=(1.0, 1.0, 1.0)):
    """(3, H, W) float32 fluxes: a disc off the centre, above a sky of 100, 80 and 60; noise of one in each band."""
    y, x = np.mgrid[:height, :width]
    disc = peak * np.exp(-np.hypot(x - 0.4 * width, y - 0.3 * height) / (0.02 * (width + height)))
    rng = np.random.default_rng(width)
    sky = np.array([100, 80, 60])[:, None, None]
    return (sky + disc * np.reshape(colours, (3, 1, 1)) + noise * rng.normal(size=(3, height, width))).astype("f")


def write(path, *hdus):
    """Write HDUs, or arrays as one HDU each, the first of them as the primary one."""
    if not isinstance(hdus[0], io_fits.PrimaryHDU):
        hdus = (io_fits.PrimaryHDU(hdus[0]), *hdus[1:])
    rest = [hdu if hasattr(hdu, "header") else io_fits.ImageHDU(hdu) for hdu in hdus[1:]]
    io_fits.HDUList([hdus[0], *rest]).writeto(path, overwrite=True)
    return path


def table(rows=500):
    return io_fits.BinTableHDU.from_columns([io_fits.Column("flux", "E", array=np.zeros(rows))])


def reason(path, smallest=SIDE):
    with pytest.raises(ImageError) as caught:
        decode(path, smallest=smallest)
    assert "\n" not in str(caught.value)
    assert str(path) not in str(caught.value)
    return str(caught.value)


def test_the_picture_is_as_viewers_show_it(tmp_path):
    """The first row of FITS is at the bottom, the first column on the left."""
    pixels = decode(write(tmp_path / "a.fits", galaxy(61, 49)), smallest=SIDE)
    assert (pixels.shape, pixels.dtype) == ((49, 61, 3), np.uint8)
    row, column = np.unravel_index(pixels.sum(axis=2).argmax(), (49, 61))
    assert abs(row - (48 - 0.3 * 49)) <= 2
    assert abs(column - 0.4 * 61) <= 2


def test_bands_first_and_last_are_the_same_picture(tmp_path):
    bands = galaxy(61, 49, colours=(1.5, 1, 0.5))
    first = decode(write(tmp_path / "a.fits", bands), smallest=SIDE)
    np.testing.assert_array_equal(decode(write(tmp_path / "b.fits", np.moveaxis(bands, 0, 2)), smallest=SIDE), first)
    np.testing.assert_array_equal(first, stretch(bands)[::-1])
    centre = first[int(48 - 0.3 * 49), int(0.4 * 61)].astype(int)
    assert centre[0] > centre[1] + 20 > centre[2] + 40  # red, green, blue


def test_grey_is_three_equal_bands(tmp_path):
    grey = galaxy()[1]
    pixels = decode(write(tmp_path / "a.fits", grey), smallest=SIDE)
    assert (pixels == pixels[:, :, :1]).all()
    np.testing.assert_array_equal(pixels, stretch(np.stack([grey] * 3))[::-1])


def test_the_first_image_is_taken_from_among_other_hdus(tmp_path):
    image, other = galaxy(), galaxy(64, 50)
    hdus = (io_fits.PrimaryHDU(), table(), io_fits.ImageHDU(np.zeros((2, 50, 50))), io_fits.ImageHDU(image))
    pixels = decode(write(tmp_path / "a.fits", *hdus, io_fits.ImageHDU(other)), smallest=SIDE)
    np.testing.assert_array_equal(pixels, stretch(image)[::-1])


@pytest.mark.parametrize("name", ["a.fits.gz", "a.fits", "a.jpg"])
def test_gzip_whatever_the_name(tmp_path, name):
    plain = write(tmp_path / "plain.fits", galaxy())
    (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes()))
    np.testing.assert_array_equal(decode(tmp_path / name, smallest=SIDE), decode(plain, smallest=SIDE))


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
def test_dtypes(tmp_path, dtype):
    """Unsigned integers are written with BZERO."""
    values = galaxy().round().clip(0, 255)
    pixels = decode(write(tmp_path / "a.fits", values.astype(dtype)), smallest=SIDE)
    np.testing.assert_array_equal(pixels, stretch(values)[::-1])


def test_scaled_integers_and_blanks(tmp_path):
    values = galaxy()[0].round().astype("i2")
    hdu = io_fits.PrimaryHDU(values.copy())
    hdu.header["BLANK"] = -32768
    hdu.data[5:9, 40:44] = -32768
    hdu.writeto(tmp_path / "a.fits")
    content = (tmp_path / "a.fits").read_bytes()
    scaled = (
        b"BSCALE  =                  2.5".ljust(80) + b"BZERO   =              -1000.0".ljust(80) + b"END".ljust(80)
    )
    assert content.count(b"END".ljust(240)) == 1
    (tmp_path / "a.fits").write_bytes(content.replace(b"END".ljust(240), scaled))
    expected = values * 2.5 - 1000
    expected[5:9, 40:44] = np.nan
    np.testing.assert_array_equal(decode(tmp_path / "a.fits", smallest=SIDE), stretch(expected[None].astype("f"))[::-1])


def test_tile_compression(tmp_path):
    values = galaxy()[0].round().astype("i2")
    path = write(tmp_path / "a.fits", io_fits.PrimaryHDU(), io_fits.CompImageHDU(values))
    np.testing.assert_array_equal(decode(path, smallest=SIDE), stretch(values[None].astype("f"))[::-1])


def plain_stretch(bands, sky, noise):
    """The formula in float64, a pixel at a time."""
    pixels = np.empty((*bands.shape[1:], 3))
    for row, column in np.ndindex(*bands.shape[1:]):
        flux = (bands[:, row, column].astype(float) - sky) / noise + 1
        intensity = sum(flux) / 3
        scale = 25.5 * np.arcsinh(2.5 * intensity / 75) / np.arcsinh(0.25) / intensity if intensity > 0 else 0
        pixels[row, column] = [max(0, scale * value) for value in flux]
        pixels[row, column] *= min(1, 255 / max(255, *pixels[row, column]))
    return pixels


@pytest.mark.parametrize("peak", [20, 80, 200])
def test_the_formula(peak):
    """With the true sky and noise (of a mean of three bands); what sep finds is a little off on 200 × 200 pixels."""
    bands = galaxy(200, 200, peak, colours=(1.3, 1, 0.7))
    expected = plain_stretch(bands, (100, 80, 60), 3**-0.5)
    pixels = stretch(bands).astype(float)
    np.testing.assert_allclose(pixels[50:70, 70:90], expected[50:70, 70:90], rtol=0.1, atol=5)
    assert pixels.mean() == pytest.approx(expected.mean(), rel=0.1)
    assert np.median(pixels.mean(axis=2)) == pytest.approx(SKY, abs=2)


def test_colours_are_kept_where_a_pixel_is_saturated():
    bands = galaxy(200, 200, peak=50_000, noise=1, colours=(2, 1, 0.5))
    centre = stretch(bands)[60, 80].astype(float)
    np.testing.assert_allclose(centre, (255, 127.5, 63.75), atol=2)


@pytest.mark.parametrize("unit", [1e-35, 1e-9, 1e5, 1e25])
def test_the_unit_and_the_sky_do_not_matter(unit):
    bands = galaxy(200, 200)
    expected = stretch(bands).astype(int)
    for same in (bands * float(unit), bands - 1000):
        different = np.abs(stretch(same) - expected) > 1  # where an intensity is about 0, below which all is black
        assert different.mean() < 1e-3


def test_pixels_without_a_value_become_sky():
    bands = galaxy(200, 200)
    bands[0, :20], bands[1, :, 150:], bands[:, 100:110, 100:110] = np.nan, np.inf, -np.inf
    bands[2, 190:] = 1e38
    pixels = stretch(bands)
    assert (pixels[100:110, 100:110] == SKY).all()
    clean = stretch(galaxy(200, 200)).astype(int)
    assert np.abs(pixels[20:100, :150] - clean[20:100, :150]).max() <= 15  # its sky and noise are of fewer pixels


@pytest.mark.parametrize("value", [0, -5, 7e20])
def test_a_constant_image_is_sky(value):
    assert (stretch(np.full((1, SIDE, SIDE), value, "f")) == SKY).all()


@pytest.mark.parametrize("scale", [1e-20, 1, 1e20])
def test_without_noise_the_galaxy_is_neither_black_nor_white(scale):
    smooth = (galaxy(200, 200, noise=0) * scale).astype("f")
    assert np.percentile(stretch(smooth), 99) == pytest.approx(198, abs=3)
    assert (stretch(smooth)[:, -20:] <= 30).all()
    star = np.zeros((1, 200, 200), "f")
    star[0, 100:104, 50:54] = scale
    pixels = stretch(star)
    assert np.abs(pixels[100:104, 50:54] - 198.0).max() <= 3
    assert (pixels != SKY).any(axis=2).sum() == 16


def test_saturated_stars_and_cosmic_rays_leave_the_galaxy_as_it_is():
    bands = galaxy(200, 200)
    expected = stretch(bands).astype(int)
    bands[:, 150:154, 150:154] = 1e29
    bands[:, 170, 20:40] = -1e29
    pixels = stretch(bands)
    assert (pixels[150:154, 150:154] == 255).all()
    assert (pixels[170, 20:40] == 0).all()
    np.testing.assert_allclose(pixels[:140], expected[:140], atol=6)


def test_borders_of_zeros_leave_the_galaxy_as_it_is():
    bands = galaxy(200, 200) - np.array([100, 80, 60], "f")[:, None, None]
    expected = stretch(bands).astype(int)
    bands[:, 110:] = 0
    np.testing.assert_allclose(stretch(bands)[:110], expected[:110], atol=20)


def test_no_finite_pixel(tmp_path):
    assert reason(write(tmp_path / "a.fits", np.full((SIDE, SIDE), np.nan))) == "none of its pixels is finite"


@pytest.mark.parametrize(
    ("hdus", "found"),
    [
        ((None,), "no data"),
        ((None, "table"), "a table or the like"),
        ((None, "table", "table"), "a table or the like"),
        ((np.zeros((2, 1, 50, 50)),), "2×1×50×50"),
        ((np.zeros((2, 50, 50)), np.zeros(2880)), "2×50×50, 2880"),
    ],
)
def test_no_image_of_one_or_three_bands(tmp_path, hdus, found):
    hdus = [table() if isinstance(hdu, str) else hdu for hdu in hdus]
    assert reason(write(tmp_path / "a.fits", *hdus)) == (
        f"no image of one or three bands in it (found {found}), or truncated before it"
    )


def test_sizes(tmp_path):
    path = write(tmp_path / "a.fits", np.zeros((3, 180, 200)))
    assert reason(path, smallest=207) == "200×180 pixels, smaller than the 207-pixel crop"
    assert decode(path, smallest=180).shape == (180, 200, 3)
    assert reason(write(tmp_path / "a.fits", np.zeros((180, 200, 3))), smallest=207).startswith("200×180")


@pytest.mark.parametrize("zipped", [False, True])
def test_size_is_looked_at_before_the_data(tmp_path, zipped):
    """A header that claims 72 GB, and nothing behind it."""
    header = io_fits.Header({"SIMPLE": True, "BITPIX": -64, "NAXIS": 3, "NAXIS1": 10**6, "NAXIS2": 3000, "NAXIS3": 3})
    content = header.tostring().encode()
    (tmp_path / "a.fits").write_bytes(gzip.compress(content) if zipped else content)
    assert reason(tmp_path / "a.fits") == "1000000×3000 pixels, more than the 67,108,864 that are decoded"


@pytest.mark.parametrize("kind", ["plain", "extension", "tiles", "zipped", "zipped after"])
def test_truncated_files_are_refused(tmp_path, kind):
    """Wherever they end before their padding, of a whole HDU where all pixels are there."""
    values, path = galaxy().round().astype("i2"), tmp_path / "a.fits"
    if kind == "tiles":
        write(path, io_fits.PrimaryHDU(), io_fits.CompImageHDU(values))
    elif kind == "extension":
        write(path, io_fits.PrimaryHDU(), values)
    else:
        write(path, values)
    whole, expected = path.read_bytes(), decode(path, smallest=SIDE)
    end = len(whole.rstrip(b"\0"))
    if kind == "zipped":
        whole = gzip.compress(whole)
        end = len(whole)
    for lost in [*range(1, 20), *range(20, end, 613)]:
        content = whole[: end - lost]
        path.write_bytes(gzip.compress(content) if kind == "zipped after" else content)
        why = reason(path)
        assert any(text in why for text in ("damaged (", "truncated before", "truncated after", "not an image")), lost
        if lost < 1000:
            assert why == f"truncated after {path.stat().st_size:,} bytes"
    path.write_bytes(whole[:end] + b"trailing" * 1000 if kind != "zipped" else whole)
    np.testing.assert_array_equal(decode(path, smallest=SIDE), expected)


def test_a_wrong_checksum_of_gzip_is_found(tmp_path):
    content = bytearray(gzip.compress(write(tmp_path / "a.fits", galaxy()).read_bytes()))
    content[-8] ^= 1
    (tmp_path / "a.fits").write_bytes(content)
    assert reason(tmp_path / "a.fits").startswith("damaged (CRC check failed")


def test_what_grows_out_of_gzip_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(fits, "_MAX_UNZIPPED", 2**20)
    write(tmp_path / "plain.fits", galaxy(300, 300))
    (tmp_path / "a.fits").write_bytes(gzip.compress((tmp_path / "plain.fits").read_bytes()))
    assert reason(tmp_path / "a.fits") == "more than 1,048,576 bytes when decompressed; decompress it first"
    assert decode(tmp_path / "plain.fits", smallest=SIDE).shape == (300, 300, 3)


def test_a_negative_size_does_not_go_on_for_ever(tmp_path):
    path = write(tmp_path / "a.fits", io_fits.PrimaryHDU(), np.zeros((2, 50, 50), "u1"), galaxy())
    content = path.read_bytes()
    sizes = b"NAXIS1  =                   50", b"NAXIS1  =                  -40"
    assert content.count(sizes[0]) == 1
    path.write_bytes(content.replace(*sizes))
    assert reason(path) == "damaged (a negative size)"


def test_files_that_are_no_fits(tmp_path):
    path = tmp_path / "a.fits"
    path.write_text("no galaxy here\n" * 100)
    assert reason(path) == "not an image (expected JPEG, PNG or FITS)"
    path.write_text("SIMPLE words are no FITS\n" * 200)
    assert "damaged (" in reason(path)
    path.write_bytes(gzip.compress(b"no galaxy here" * 1000))
    assert "damaged (" in reason(path)
    path.write_bytes(b"\x1f\x8b" + bytes(100))
    assert "damaged (" in reason(path)
    path.write_bytes(b"")
    assert reason(path) == "empty file"


def test_a_picture_that_is_called_fits_is_decoded(tmp_path):
    Image.new("RGB", (SIDE, SIDE), (1, 2, 3)).save(tmp_path / "a.fits", "PNG")
    assert (decode(tmp_path / "a.fits", smallest=SIDE) == (1, 2, 3)).all()


@pytest.mark.parametrize("package", ["astropy", "sep"])
def test_a_missing_package_is_named(tmp_path, monkeypatch, package):
    path = write(tmp_path / "a.fits", galaxy())
    real_import = builtins.__import__

    def without(name, *args):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real_import(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    assert reason(path) == 'reading FITS needs astropy and sep; run: pip install "gzkern[astro]"'


def test_damage_is_a_reason_and_never_a_warning(tmp_path, recwarn):
    rng, path = np.random.default_rng(0), tmp_path / "a.fits"
    values = galaxy().round().astype("i2")
    plain = write(path, io_fits.PrimaryHDU(), values).read_bytes()
    tiles = write(path, io_fits.PrimaryHDU(), io_fits.CompImageHDU(values)).read_bytes()
    refused = 0
    for trial in range(200):
        content = bytearray((plain, tiles)[trial % 2])
        for place in rng.integers(0, 5760, 1 + trial % 7):
            content[place] = rng.integers(256) if trial % 3 else rng.integers(32, 127)
        path.write_bytes(gzip.compress(content) if trial % 4 == 0 else content)
        try:
            decode(path, smallest=1)
        except ImageError:
            refused += 1
    assert 10 < refused < 190
    assert not recwarn.list


def test_many_threads_decode_without_a_word(tmp_path):
    """Truncated in the padding: sound, but astropy warns of it."""
    write(tmp_path / "a.fits", galaxy())
    content = (tmp_path / "a.fits").read_bytes()
    (tmp_path / "a.fits").write_bytes(content[:-100])
    program = """
import sys
from concurrent.futures import ThreadPoolExecutor
from gzkern.data.images import decode
with ThreadPoolExecutor(8) as pool:
    pictures = list(pool.map(lambda _: decode(sys.argv[1], smallest=48).tobytes(), range(100)))
print(len(set(pictures)))
"""
    command = [sys.executable, "-W", "always", "-c", program, str(tmp_path / "a.fits")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.skipif(real_sample() is None, reason="GZKERN_SAMPLE is not set")
def test_real_galaxies_look_as_in_their_jpegs(tmp_path):
    """Fluxes that SDSS's stretch would show as a JPEG, with noise and a sky, become much the same picture."""
    rng = np.random.default_rng(0)
    for path in sorted(real_sample().glob("images_training_rev1/*.jpg"))[::100]:
        picture = decode(path, smallest=SIDE).astype(float)
        intensity = picture.mean(axis=2, keepdims=True)
        flux = picture * 25 * np.sinh(intensity / 90) / np.maximum(intensity, 1) + rng.normal(
            scale=1.7, size=picture.shape
        )
        write(tmp_path / "a.fits", np.moveaxis(1e-3 * flux + (0.5, 0.4, 0.3), 2, 0)[:, ::-1].astype("f"))
        shown = decode(tmp_path / "a.fits", smallest=SIDE)
        assert np.sqrt(np.mean((shown - picture) ** 2)) < 8
        assert shown.mean() == pytest.approx(picture.mean(), rel=0.4)
