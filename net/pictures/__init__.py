"""Images and label images in files: read, checked, matched by name, and written.

Files may come from strangers. What a file is, is told by its first bytes, never by its name; its
size is held against the memory that is free before anything is decoded, and whatever is wrong with
it raises ``BadImage``, naming the file and the fault.

``net.images.net_input`` makes a net's input of what ``read`` gives.
"""

from net.pictures.folders import matched, pictures_in
from net.pictures.labels import read_labels, read_mask
from net.pictures.normalization import normalization_of
from net.pictures.reading import BadImage, read, shape_of

__all__ = [
    "BadImage",
    "matched",
    "normalization_of",
    "pictures_in",
    "read",
    "read_labels",
    "read_mask",
    "shape_of",
]
