"""Images of every kind come as they were written; what is none is refused, naming the file."""

import os
import re
import subprocess
import sys
import tracemalloc

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from net.pictures import BadImage, normalization_of, read, shape_of
from tests.pictures.files import BANDS, FLOATS, GREY, KINDS, OF_ALPHA, RGB, first, png, with_tags

PALETTE = np.arange(768, dtype=np.uint16).reshape(3, 256) * 85


def refused(path, message, **options):
    with pytest.raises(BadImage, match=f"^{re.escape(str(path))} cannot be read: .*{message}"):
        read(path, **options)


class TestKinds:
    @pytest.mark.parametrize("name", KINDS)
    def test_is_read_as_it_was_written(self, tmp_path, name):
        write, expected = KINDS[name]
        write(tmp_path / name)
        image = read(tmp_path / name)
        np.testing.assert_array_equal(image, first(expected))
        assert shape_of(tmp_path / name) == image.shape
        if "64" not in name:
            assert image.dtype.newbyteorder("=") == expected.dtype

    def test_the_name_says_nothing(self, tmp_path):
        KINDS["grey.tif"][0](tmp_path / "x.tif")
        os.rename(tmp_path / "x.tif", tmp_path / "x.png")
        np.testing.assert_array_equal(read(tmp_path / "x.png"), first(GREY))

    @pytest.mark.parametrize("name", OF_ALPHA)
    def test_alpha_is_dropped_with_a_word(self, tmp_path, name):
        write, expected = OF_ALPHA[name]
        write(tmp_path / name)
        with pytest.warns(UserWarning, match=f"{name}: alpha is dropped"):
            image = read(tmp_path / name)
        np.testing.assert_array_equal(image, first(expected)[:-1])
        counted = read(tmp_path / name, channels=expected.shape[2])
        np.testing.assert_array_equal(counted, first(expected))

    def test_a_palette_gives_colors(self, tmp_path):
        tifffile.imwrite(tmp_path / "x.tif", GREY, photometric="palette", colormap=PALETTE)
        np.testing.assert_array_equal(read(tmp_path / "x.tif"), PALETTE[:, GREY] >> 8)
        image = Image.fromarray(GREY % 3, "P")
        image.putpalette([9, 8, 7, 6, 5, 4, 3, 2, 1])
        image.save(tmp_path / "x.png")
        colors = np.arange(9, 0, -1).reshape(3, 3)
        np.testing.assert_array_equal(read(tmp_path / "x.png"), first(colors[GREY % 3]))

    def test_a_jpeg_is_turned_as_it_says(self, tmp_path):
        image, exif = Image.fromarray(np.ascontiguousarray(RGB)), Image.Exif()
        image.save(tmp_path / "flat.jpg")
        exif[0x112] = 6
        image.save(tmp_path / "turned.jpg", exif=exif)
        flat = read(tmp_path / "flat.jpg")
        assert shape_of(tmp_path / "turned.jpg") == (3, 30, 20)
        np.testing.assert_array_equal(read(tmp_path / "turned.jpg"), np.rot90(flat, -1, (1, 2)))

    def test_colors_of_16_bits_keep_them(self, tmp_path):
        (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(BANDS[..., :3] * np.uint16(16)))
        np.testing.assert_array_equal(read(tmp_path / "x.png"), first(BANDS[..., :3]) * 16)

    def test_a_missing_codec_is_named(self, tmp_path):
        (tmp_path / "x.png").write_bytes(
            imagecodecs.png_encode(np.ascontiguousarray(BANDS[..., :3]))
        )
        tifffile.imwrite(tmp_path / "x.tif", GREY, compression="lzw")
        program = (
            "import sys; sys.modules['imagecodecs'] = None\n"
            "from net.pictures import BadImage, read\n"
            "for path in ('x.png', 'x.tif'):\n"
            "    try: read(path)\n"
            "    except BadImage as error: print(error)\n"
        )
        environment = os.environ | {"PYTHONPATH": os.getcwd()}
        printed = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for line, what in zip(printed, ("a PNG of 16 bits", "its compression LZW")):
            assert f"cannot be read: {what}" in line
            assert (
                'needs the package imagecodecs: pip install imagecodecs, or the extra "large"'
                in line
            )
        assert len(printed) == 2


class TestChannels:
    def test_pages_may_be_channels(self, tmp_path):
        path = tmp_path / "pages.tif"
        tifffile.imwrite(path, first(BANDS), photometric="minisblack")
        refused(path, "it holds 7 pages of 20 x 30; expected one .or axes 'first'")
        for options in ({"axes": "first"}, {"channels": 7}):
            np.testing.assert_array_equal(read(path, **options), first(BANDS))
        refused(path, "its channels are on the first axis; expected the last", axes="last")

    def test_either_axis_could_be_meant(self, tmp_path):
        path, cube = tmp_path / "cube.npy", np.arange(8 * 9 * 8).reshape(8, 9, 8)
        np.save(path, cube)
        refused(path, "it has shape 8 x 9 x 8, whose first or last axis may hold the channels")
        np.testing.assert_array_equal(read(path, axes="last"), first(cube))
        np.testing.assert_array_equal(read(path, axes="first"), cube)

    def test_other_channels(self, tmp_path):
        for name in ("rgb.png", "last.npy"):
            KINDS[name][0](tmp_path / name)
        refused(tmp_path / "rgb.png", "it has 3 channels; expected 1", channels=1)
        refused(tmp_path / "last.npy", "shape 20 x 30 x 7; expected 3 channels on", channels=3)

    def test_more_axes(self, tmp_path):
        tifffile.imwrite(tmp_path / "x.tif", np.zeros((2, 5, 20, 30), np.uint8))
        refused(tmp_path / "x.tif", "its axes are QQYX, 2 x 5 x 20 x 30; expected rows, columns")
        np.save(tmp_path / "x.npy", np.zeros(3))
        refused(tmp_path / "x.npy", "it has shape 3; expected rows and columns")


class TestNormalization:
    def test_is_that_of_the_images(self, tmp_path):
        for i in (0, 1):
            np.save(tmp_path / f"{i}.npy", BANDS[i::2])
        normalization = normalization_of([tmp_path / "0.npy", tmp_path / "1.npy"])
        np.testing.assert_allclose(normalization.mean, BANDS.mean(axis=(0, 1)))
        np.testing.assert_allclose(normalization.deviation, BANDS.std(axis=(0, 1)))

    def test_what_spoils_it_is_named(self, tmp_path):
        np.save(tmp_path / "whole.npy", FLOATS)
        np.save(tmp_path / "holes.npy", np.where(FLOATS > 0.9, np.nan, FLOATS))
        np.save(tmp_path / "more.npy", BANDS)
        for name, message in (("holes", "it holds NaN"), ("more", "expected 1 channel")):
            path = tmp_path / f"{name}.npy"
            with pytest.raises(BadImage, match=f"^{re.escape(str(path))} .*{message}"):
                normalization_of([tmp_path / "whole.npy", path])


class TestRefused:
    @pytest.mark.parametrize(
        "name",
        ["grey.png", "rgb.bmp", "rgb.webp", "tiled.tif", "deflate.tif", "rgb.tif", "last.npy"],
    )
    def test_truncated(self, tmp_path, name):
        path = tmp_path / name
        KINDS[name][0](path)
        content = path.read_bytes()
        for kept in (12, len(content) // 2, len(content) * 9 // 10):
            path.write_bytes(content[:kept])
            refused(path, "")
        path.write_bytes(b"")
        refused(path, "it is empty")

    def test_a_jpeg_that_is_truncated(self, tmp_path):
        Image.fromarray(GREY).save(tmp_path / "x.jpg")
        (tmp_path / "x.jpg").write_bytes((tmp_path / "x.jpg").read_bytes()[:-100])
        refused(tmp_path / "x.jpg", "")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (png(100_000, 100_000, bytes(10**6)), "it is of more than .* decompression bombs"),
            (png(2**31 - 1, 5, b""), "truncated|more than .* decompression bombs"),
            (png(0, 5, b""), "its header is damaged"),
            (png(5, 5, bytes(10)), ""),
            (b"%!PS-Adobe-3.0 EPSF", "no image of a kind that is read: PNG, JPEG, TIFF"),
            (b"RIFF....WAVE", "its header is damaged"),
            (b"II*\0\x08\0\0\0", "it holds no image, or is truncated"),
            (b"II*\0\xff\xff\xff\xff", "it holds no image, or is truncated"),
            (b"\x93NUMPY\x01\0\x10\0{'descr': print}", ""),
        ],
        ids=lambda value: None if isinstance(value, bytes) else value[:25] or "damaged",
    )
    def test_hostile_files(self, tmp_path, content, message):
        path = tmp_path / "x.png"
        path.write_bytes(content)
        tracemalloc.start()
        refused(path, message)
        assert tracemalloc.get_traced_memory()[1] < 30e6
        tracemalloc.stop()

    @pytest.mark.parametrize(
        ("tags", "message"),
        [
            (
                {"ImageWidth": 2**31, "ImageLength": 2**31, "RowsPerStrip": 2**31},
                "it is of 2147483648 x 2147483648 x 3 pixels; expected 1 to",
            ),
            ({"ImageWidth": 0}, ""),
            ({"ImageLength": 40}, ""),
            ({"ImageLength": 4000, "RowsPerStrip": 4000}, ""),
            ({"StripOffsets": 10**9}, "it is truncated"),
            ({"RowsPerStrip": 1}, "it lacks a part of its pixels"),
            ({"Compression": 12345}, "12345 is not a known COMPRESSION"),
            ({"Compression": 8}, ""),
        ],
        ids=str,
    )
    def test_tiffs_that_say_what_cannot_be(self, tmp_path, tags, message):
        path = tmp_path / "x.tif"
        KINDS["rgb.tif"][0](path)
        path.write_bytes(with_tags(path, **tags))
        refused(path, message)

    def test_what_no_memory_holds_is_not_allocated(self, tmp_path):
        path = tmp_path / "x.tif"
        KINDS["rgb.tif"][0](path)
        path.write_bytes(with_tags(path, ImageLength=2 * 10**9, RowsPerStrip=2 * 10**9))
        with pytest.raises(MemoryError, match=r"x.tif is 2000000000 x 30 x 3 and takes 180 GB, "):
            read(path)
        path.write_bytes(png(2**31 - 1, 2**31 - 1, b"", depth=16, kind=2))
        with pytest.raises(MemoryError, match=r"x.tif is 2147483647 x 2147483647 x 3 and takes "):
            read(path)

    def test_a_tile_far_larger_than_the_image(self, tmp_path):
        path = tmp_path / "x.tif"
        KINDS["tiled.tif"][0](path)
        path.write_bytes(with_tags(path, TileWidth=2**16, TileLength=2**16))
        refused(path, "its tiles of .* are larger than")

    def test_other_kinds_of_numbers(self, tmp_path):
        np.save(tmp_path / "objects.npy", np.array([None]), allow_pickle=True)
        np.save(tmp_path / "complex.npy", np.zeros((3, 4), complex))
        tifffile.imwrite(tmp_path / "complex.tif", np.zeros((3, 4), np.complex64))
        Image.fromarray(np.ascontiguousarray(RGB)).convert("CMYK").save(tmp_path / "cmyk.jpg")
        refused(tmp_path / "objects.npy", "objects")
        refused(tmp_path / "complex.npy", "dtype complex128; expected real numbers")
        refused(tmp_path / "complex.tif", "dtype complex64; expected real numbers")
        refused(tmp_path / "cmyk.jpg", "its colors are CMYK; expected grey, RGB or RGBA")

    def test_several_frames(self, tmp_path):
        Image.fromarray(GREY).save(
            tmp_path / "x.gif", save_all=True, append_images=[Image.fromarray(255 - GREY)]
        )
        refused(tmp_path / "x.gif", "it holds 2 frames; expected one")

    def test_the_system_s_errors(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "nothing.png")
        with pytest.raises(IsADirectoryError):
            read(tmp_path)
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(OSError, match="is a pipe or a device; expected a file"):
            read(tmp_path / "pipe.png")
