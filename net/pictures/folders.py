"""Folders of images and labels, matched by name."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from net.files import checked_path

SUFFIXES = (*(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".npy"),)
"""Suffixes of the files in a folder that are looked at; other files are passed over."""
_SHOWN = 5


def stem_of(path: Path) -> str:
    """The name of a file without its suffix; ``.ome.tif`` is one.

    >>> stem_of(Path("folder/slide.ome.tif"))
    'slide'
    """
    stem = path.stem
    return stem[: -len(".ome")] if stem.lower().endswith(".ome") else stem


def pictures_in(folder: str | Path) -> dict[str, Path]:
    """The images in a folder by their names without suffix, in order of these.

    Names are compared in Unicode's form NFC; ``.ome.tif`` is one suffix; hidden files and those
    that end in none of ``SUFFIXES`` are passed over, folders too.

    Raises:
        ValueError: two images have one name, or there is none.
        OSError: it is no folder that can be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.png", "a.tif", "notes.txt"):
    ...         Path(folder, name).touch()
    ...     list(pictures_in(folder))
    ['a', 'b']
    """
    return _pictures_in("folder", folder)


def matched(images: str | Path, labels: str | Path) -> list[tuple[Path, Path]]:
    """Each image of a folder with the label image of the same name in another, whatever their
    suffixes.

    Raises:
        ValueError: an image or a label image has no partner; the files are named.
        OSError: a folder cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as images, tempfile.TemporaryDirectory() as labels:
    ...     Path(images, "a.jpg").touch()
    ...     Path(labels, "a.png").touch()
    ...     [(image.name, label.name) for image, label in matched(images, labels)]
    [('a.jpg', 'a.png')]
    """
    left, right = _pictures_in("images", images), _pictures_in("labels", labels)
    lonely = [
        f"{_named(one[stem] for stem in one if stem not in other)} no {what}"
        for one, other, what in ((left, right, "label image"), (right, left, "image"))
        if one.keys() - other.keys()
    ]
    if lonely:
        raise ValueError(f"images and labels do not match: {'; '.join(lonely)} of the same name")
    return [(left[stem], right[stem]) for stem in left]


def _named(paths):
    paths = [str(path) for path in paths]
    more = f" and {len(paths) - _SHOWN} more" * (len(paths) > _SHOWN)
    return f"{', '.join(paths[:_SHOWN])}{more} {'has' if len(paths) == 1 else 'have'}"


def _pictures_in(name, folder):
    folder = checked_path(name, folder)
    paths: dict[str, Path] = {}
    for file in sorted(os.listdir(folder)):
        path = folder / file
        if path.suffix.lower() not in SUFFIXES or file.startswith(".") or path.is_dir():
            continue
        stem = unicodedata.normalize("NFC", stem_of(path))
        if stem in paths:
            raise ValueError(f"{name} holds {paths[stem]} and {path}; expected one image a name")
        paths[stem] = path
    if not paths:
        raise ValueError(f"{name} is {folder}, which holds no image ({', '.join(SUFFIXES)})")
    return dict(sorted(paths.items()))
