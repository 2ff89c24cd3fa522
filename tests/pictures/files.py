"""Small image files of every kind that is read, and files that are none."""

import struct
import zlib

import numpy as np
import tifffile
from PIL import Image

SIZE = (20, 30)
_RNG = np.random.default_rng(5)
RGBA = _RNG.integers(0, 256, (*SIZE, 4), np.uint8)
RGB, GREY = RGBA[..., :3], RGBA[..., 0]
DEEP = GREY * np.uint16(257)
BANDS = _RNG.integers(0, 2**12, (*SIZE, 7), np.uint16)
FLOATS = _RNG.random(SIZE, np.float32)


def first(array):
    """Channels x rows x columns of an array with its channels last, or with none."""
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _image(array, **options):
    return lambda path: Image.fromarray(array).save(path, **options)


def _tiff(array, **options):
    return lambda path: tifffile.imwrite(path, array, **options)


_RGB_TIFF = {"photometric": "rgb"}
KINDS = {
    "grey.png": (_image(GREY), GREY),
    "rgb.png": (_image(np.ascontiguousarray(RGB)), RGB),
    "deep.png": (_image(DEEP), DEEP),
    "bits.png": (_image(GREY > 99), GREY > 99),
    "rgb.bmp": (_image(np.ascontiguousarray(RGB)), RGB),
    "rgb.webp": (_image(np.ascontiguousarray(RGB), lossless=True), RGB),
    "grey.tif": (_tiff(GREY), GREY),
    "big-endian.tif": (_tiff(DEEP.astype(">u2"), byteorder=">"), DEEP),
    "bigtiff.tif": (_tiff(GREY, bigtiff=True), GREY),
    "tiled.tif": (_tiff(FLOATS, tile=(16, 16)), FLOATS),
    "deflate.tif": (_tiff(FLOATS, compression="zlib", predictor=3), FLOATS),
    "lzw.tif": (_tiff(DEEP, compression="lzw"), DEEP),
    "float64.tif": (_tiff(FLOATS.astype(np.float64), rowsperstrip=3), FLOATS),
    "rgb.tif": (_tiff(RGB, **_RGB_TIFF), RGB),
    "planar.tif": (_tiff(first(RGB), planarconfig="separate", **_RGB_TIFF), RGB),
    "bands.tif": (_tiff(BANDS, photometric="minisblack", planarconfig="contig"), BANDS),
    "near-infrared.tif": (_tiff(RGBA, extrasamples=["unspecified"], **_RGB_TIFF), RGBA),
    "bands.ome.tif": (_tiff(first(BANDS), metadata={"axes": "CYX"}), BANDS),
    "last.npy": (lambda path: np.save(path, BANDS), BANDS),
    "first.npy": (lambda path: np.save(path, first(BANDS)), BANDS),
    "fortran.npy": (lambda path: np.save(path, np.asfortranarray(GREY)), GREY),
}
"""By name: what writes the file, and what it holds, rows x columns, or channels last."""

LOSSY = {
    "rgb.jpg": (_image(np.ascontiguousarray(RGB)), RGB),
    "jpeg.tif": (_tiff(RGB, compression="jpeg", **_RGB_TIFF), RGB),
}
OF_ALPHA = {
    "rgba.png": (_image(RGBA), RGBA),
    "grey-alpha.png": (_image(np.ascontiguousarray(RGBA[..., :2])), RGBA[..., :2]),
    "rgba.tif": (_tiff(RGBA, extrasamples=["unassalpha"], **_RGB_TIFF), RGBA),
}


def png(width, height, data, depth=8, kind=0):
    """A PNG with right checksums, whatever else it says."""

    def chunk(name, content):
        checksum = zlib.crc32(name + content).to_bytes(4)
        return len(content).to_bytes(4) + name + content + checksum

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data, 9)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def with_tags(path, **values):
    """The bytes of a TIFF of which some tags hold other numbers."""
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        for name, value in values.items():
            at = file.pages[0].tags[name].offset
            struct.pack_into("<HII", content, at + 2, 4, 1, value)
    return bytes(content)
