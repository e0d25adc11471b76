import io
import os
import sys
import zlib

import numpy as np
import pytest
from data_files import SIDE, picture, real_sample
from PIL import Image

from gzkern.data import images
from gzkern.data.images import decode, image_id, is_image_name
from gzkern.errors import ImageError, InputError


def save(path, image, **options):
    image.save(path, **options)
    return path


def reason(path, smallest=SIDE):
    with pytest.raises(ImageError) as caught:
        decode(path, smallest=smallest)
    assert str(path) not in str(caught.value)
    return str(caught.value)


def test_rgb_keeps_its_values_and_orientation(tmp_path):
    image = picture(0, width=64, height=SIDE)
    pixels = decode(save(tmp_path / "a.png", image), smallest=SIDE)
    assert pixels.shape == (SIDE, 64, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.asarray(image))


def test_jpeg_decodes_as_pillow_does(tmp_path):
    path = save(tmp_path / "a.jpg", picture(1))
    np.testing.assert_array_equal(decode(path, smallest=SIDE), np.asarray(Image.open(path)))


def test_greyscale_is_repeated(tmp_path):
    grey = picture(2).convert("L")
    pixels = decode(save(tmp_path / "a.png", grey), smallest=SIDE)
    for channel in range(3):
        np.testing.assert_array_equal(pixels[:, :, channel], np.asarray(grey))


def test_bilevel_becomes_black_and_white(tmp_path):
    pixels = decode(save(tmp_path / "a.png", picture(2).convert("1")), smallest=SIDE)
    assert set(np.unique(pixels)) == {0, 255}


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    deep = np.linspace(0, 65535, SIDE * SIDE).round().astype(np.uint16).reshape(SIDE, SIDE)
    pixels = decode(save(tmp_path / "a.png", Image.fromarray(deep)), smallest=SIDE)
    expected = np.round(deep / 257)
    np.testing.assert_array_equal(pixels, np.repeat(expected[:, :, None], 3, axis=2))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_alpha_is_dropped_not_blended(tmp_path, mode):
    image = picture(3).convert(mode)
    expected = np.asarray(image.convert("RGB"))
    image.putalpha(7)
    pixels = decode(save(tmp_path / "a.png", image), smallest=SIDE)
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("options", [{}, {"transparency": 0}, {"transparency": bytes(range(256))}])
@pytest.mark.filterwarnings("error")
def test_palette(tmp_path, options):
    image = picture(4).quantize(256)
    pixels = decode(save(tmp_path / "a.png", image, **options), smallest=SIDE)
    np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))


def test_cmyk_becomes_rgb(tmp_path):
    image = Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0))  # magenta + yellow ink: red
    pixels = decode(save(tmp_path / "a.jpg", image, quality=95), smallest=SIDE)
    assert pixels.shape == (SIDE, SIDE, 3)
    np.testing.assert_allclose(pixels[SIDE // 2, SIDE // 2], (255, 0, 0), atol=6)


def test_exif_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90°
    path = save(tmp_path / "a.jpg", picture(5, width=64), exif=exif)
    assert decode(path, smallest=SIDE).shape == (SIDE, 64, 3)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("percent", range(5, 100, 5))
def test_truncated_jpeg_is_refused(tmp_path, percent, progressive):
    buffer = io.BytesIO()
    picture(6, 212, 212).save(buffer, "JPEG", progressive=progressive)
    whole = buffer.getvalue()
    path = tmp_path / "a.jpg"
    path.write_bytes(whole[: len(whole) * percent // 100])
    assert reason(path) == f"truncated after {path.stat().st_size:,} bytes"


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_each_of_the_last_bytes_of_a_jpeg_is_missed_and_what_follows_is_not(tmp_path, quality):
    buffer = io.BytesIO()
    picture(6).save(buffer, "JPEG", quality=quality)
    whole, path = buffer.getvalue(), tmp_path / "a.jpg"
    for lost in range(1, 33):
        path.write_bytes(whole[:-lost])
        assert "truncated" in reason(path), lost
    path.write_bytes(whole + b"trailing")
    assert decode(path, smallest=SIDE).shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("percent", range(5, 100, 10))
def test_truncated_png_is_refused(tmp_path, percent):
    path = save(tmp_path / "a.png", picture(6))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * percent // 100])
    assert reason(path)


def test_damaged_png_is_refused(tmp_path):
    path = save(tmp_path / "a.png", picture(6))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    path.write_bytes(content)
    assert reason(path).startswith("damaged (")


def test_too_small(tmp_path):
    path = save(tmp_path / "a.jpg", picture(7, width=200, height=180))
    assert reason(path, smallest=207) == "200×180 pixels, smaller than the 207-pixel crop"
    assert decode(path, smallest=180).shape == (180, 200, 3)


@pytest.mark.parametrize("side", [8200, 10_000, 20_000])
@pytest.mark.filterwarnings("error")
def test_decompression_bomb_is_refused_by_its_header(tmp_path, side):
    path = save(tmp_path / "a.png", Image.new("1", (8, 8)))
    content = bytearray(path.read_bytes())
    content[16:24] = side.to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    assert "more than the 67,108,864" in reason(path)


def test_files_that_are_no_images(tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("no galaxy here\n" * 100)
    assert reason(text) == "not an image (expected JPEG, PNG or FITS)"
    gif = save(tmp_path / "gif.jpg", picture(8), format="GIF")
    assert reason(gif) == "not an image (expected JPEG, PNG or FITS)"
    empty = tmp_path / "empty.jpg"
    empty.touch()
    assert reason(empty) == "empty file"
    assert reason(tmp_path / "absent.jpg") == "no such file"
    assert reason(tmp_path) == "is a directory"
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for ever
    assert reason(tmp_path / "pipe.jpg") == "not a regular file"


def test_permission(tmp_path, monkeypatch):
    path = save(tmp_path / "a.jpg", picture(9))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    assert reason(path) == "permission denied"


def write_jpeg(path, width, height, mode="RGB", **options):
    picture(width, max(width, 4), max(height, 4)).resize((width, height)).convert(mode).save(path, "JPEG", **options)
    return path


@pytest.fixture
def both_decoders(monkeypatch):
    """A function that decodes with Pillow alone, and with simplejpeg too, and requires the same of both."""
    pytest.importorskip("simplejpeg")

    def what_becomes_of(path):
        try:
            return decode(path, smallest=1)
        except ImageError as error:
            return str(error)

    def decode_with_both(path):
        faster = what_becomes_of(path)
        with monkeypatch.context() as patched:
            patched.setattr(images, "_simplejpeg", lambda: None)
            expected = what_becomes_of(path)
        if isinstance(expected, str):
            assert expected == faster
        else:
            np.testing.assert_array_equal(faster, expected, strict=True)
        return expected

    return decode_with_both


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (17, 16), (49, 61), (212, 211)])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}, {"restart_marker_rows": 1}])
def test_simplejpeg_decodes_as_pillow_does(tmp_path, both_decoders, size, subsampling, options):
    path = write_jpeg(tmp_path / "a.jpg", *size, subsampling=subsampling, **options)
    assert both_decoders(path).shape == (size[1], size[0], 3)
    np.testing.assert_array_equal(images._decode_sound_jpeg(path.read_bytes()), np.asarray(Image.open(path)))


@pytest.mark.parametrize(
    "options", [{"mode": "L"}, {"mode": "CMYK"}, {"keep_rgb": True}, {"exif": b"Exif\0\0nonsense"}]
)
def test_other_jpegs_do_not_depend_on_simplejpeg(tmp_path, both_decoders, options):
    assert both_decoders(write_jpeg(tmp_path / "a.jpg", 49, 61, **options)).shape == (61, 49, 3)


def test_damage_is_judged_the_same_with_and_without_simplejpeg(tmp_path, both_decoders):
    rng, path = np.random.default_rng(0), tmp_path / "a.jpg"
    whole = write_jpeg(path, 97, 83, quality=90).read_bytes()
    refused = 0
    for trial in range(300):
        content = bytearray(whole)
        for place in rng.integers(2, len(whole) if trial % 2 else 700, 1 + trial % 3):
            content[place] = rng.integers(256)
        path.write_bytes(content[: rng.integers(len(whole) // 2, len(whole))] if trial % 5 == 0 else content)
        refused += isinstance(both_decoders(path), str)
    assert 60 < refused < 240


@pytest.mark.skipif(real_sample() is None, reason="GZKERN_SAMPLE is not set")
def test_simplejpeg_decodes_real_images_as_pillow_does(both_decoders):
    for path in real_sample().glob("images_*/*.jpg"):
        assert both_decoders(path).shape == (424, 424, 3)


def test_without_simplejpeg(tmp_path, monkeypatch):
    path = write_jpeg(tmp_path / "a.jpg", 49, 61)
    monkeypatch.setitem(sys.modules, "simplejpeg", None)  # importing it fails
    images._simplejpeg.cache_clear()
    try:
        np.testing.assert_array_equal(decode(path, smallest=SIDE), np.asarray(Image.open(path)))
    finally:
        images._simplejpeg.cache_clear()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("7.jpg", "7"),
        ("7.JPEG", "7"),
        ("a.b.png", "a.b"),
        ("7.fits", "7"),
        ("7.FIT", "7"),
        ("7.fits.gz", "7"),
        ("7.Fits.GZ", "7"),
        ("7.gz", None),
        ("7.fit.gz", None),
        ("7.fits.gz.txt", None),
        ("jpg", None),
        (".7.fits", None),
        (".fits.gz", None),
    ],
)
def test_the_id_is_the_name_without_its_ending(tmp_path, name, expected):
    assert is_image_name(tmp_path / name) == (expected is not None)
    if expected is not None:
        assert image_id(tmp_path / name) == expected


def test_image_error_is_an_input_error():
    assert issubclass(ImageError, InputError)
