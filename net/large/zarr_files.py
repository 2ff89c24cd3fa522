"""Zarr arrays and OME-Zarr images, versions 2 and 3."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from net.extras import needed

_METADATA = ("zarr.json", ".zattrs", ".zarray")


def image_in(path: Path) -> tuple:
    """(array, names of its axes or None, digest of its metadata) of a Zarr array, or of an OME-Zarr
    image at full size.

    Raises:
        ModuleNotFoundError: Zarr is missing.
        ValueError: neither of these.
    """
    zarr = needed("zarr", str(path))
    from zarr.errors import BaseZarrError

    try:
        node, names = zarr.open(str(path), mode="r"), None
        if isinstance(node, zarr.Group):
            attributes = dict(node.attrs)
            scales = attributes.get("ome", attributes)["multiscales"][0]
            node = node[scales["datasets"][0]["path"]]
            names = "".join(one["name"] if isinstance(one, dict) else one for one in scales["axes"])
    except (BaseZarrError, FileNotFoundError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no Zarr array or image: {error}") from None
    except (KeyError, IndexError, TypeError):
        raise ValueError(
            f"{path} is a Zarr group without an OME image; expected the path of an array in it"
        ) from None
    return node, names, _digest(path, path / node.path.lstrip("/"))


def _digest(*folders):
    digest = hashlib.blake2b(digest_size=16)
    for folder in dict.fromkeys(folders):
        for name in _METADATA:
            if (folder / name).is_file():
                digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def chunks_of(array) -> tuple[int, ...] | None:
    """The extents that are read together of an array of Zarr, Dask or HDF5; None of others."""
    chunks = getattr(array, "chunksize", getattr(array, "chunks", None))
    is_shape = isinstance(chunks, tuple) and all(isinstance(n, int) and n > 0 for n in chunks)
    return chunks if is_shape and len(chunks) == len(array.shape) else None
