import io
import os
import zlib

import numpy as np
import pytest
from data_files import SIDE, picture
from PIL import Image

from gzkern.data.images import decode
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


def test_alpha_is_dropped_not_blended(tmp_path):
    image = picture(3)
    image.putalpha(7)
    pixels = decode(save(tmp_path / "a.png", image), smallest=SIDE)
    np.testing.assert_array_equal(pixels, np.asarray(image)[:, :, :3])


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


@pytest.mark.parametrize("side", [8200, 20_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
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
    assert reason(text) == "not an image (expected JPEG or PNG)"
    gif = save(tmp_path / "gif.jpg", picture(8), format="GIF")
    assert reason(gif) == "not an image (expected JPEG or PNG)"
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


def test_image_error_is_an_input_error():
    assert issubclass(ImageError, InputError)
