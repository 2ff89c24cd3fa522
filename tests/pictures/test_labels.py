"""Label images and masks of files, and folders of both."""

import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from net.pictures import BadImage, matched, pictures_in, read_labels, read_mask
from net.usage import LabelRule

VALUES = np.array([[0, 1, 2, 0], [2, 0, 1, 1]], np.uint8)
CLASSES = VALUES.astype(int) - 1
COLORS = ((0, 0, 0), (255, 0, 0), (0, 0, 255))


def refused(path, message, rule=None, classes=2, **options):
    with pytest.raises(BadImage, match=f"^{re.escape(str(path))} cannot be read: {message}"):
        read_labels(path, rule or LabelRule(), classes, **options)


@pytest.fixture
def written(tmp_path):
    """The same labels in files of many kinds."""
    palette = Image.fromarray(VALUES, "P")
    palette.putpalette([part for color in COLORS for part in color])
    palette.save(tmp_path / "palette.png")
    Image.fromarray(VALUES).save(tmp_path / "grey.png")
    Image.fromarray(VALUES.astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.array(COLORS, np.uint8)[VALUES]).save(tmp_path / "rgb.png")
    tifffile.imwrite(tmp_path / "floats.tif", VALUES.astype(np.float32))
    np.save(tmp_path / "signed.npy", VALUES.astype(np.int64))
    return tmp_path


@pytest.mark.parametrize(
    "name", ["palette.png", "grey.png", "deep.png", "floats.tif", "signed.npy"]
)
def test_indices(written, name):
    labels = read_labels(written / name, LabelRule(), 2, (2, 4))
    np.testing.assert_array_equal(labels, CLASSES)


@pytest.mark.parametrize("name", ["palette.png", "rgb.png"])
def test_colors(written, name):
    rule = LabelRule(COLORS[0], COLORS[1:])
    np.testing.assert_array_equal(read_labels(written / name, rule, 2), CLASSES)


def test_other_values_and_shapes_are_named(written):
    np.save(written / "holes.npy", np.where(VALUES == 0, np.nan, VALUES))
    Image.fromarray(VALUES - np.uint8(1)).save(written / "wrapped.png")
    Image.fromarray(VALUES).save(written / "lossy.jpg")
    refused(written / "wrapped.png", r"labels hold 255; expected 0 \(unlabelled\) or 1, 2")
    refused(written / "holes.npy", r"labels hold nan; expected 0 \(unlabelled\) or 1, 2")
    refused(written / "grey.png", r"it is 2 x 4; expected 4 x 2", size=(4, 2))
    refused(written / "rgb.png", r"it is of shape 2 x 4 x 3; expected rows x columns")
    refused(written / "lossy.jpg", r"it is compressed with loss; expected labels that keep")
    refused(written / "grey.png", r"labels hold 2; expected 0 \(unlabelled\) or 1 ", classes=1)


def test_masks_are_what_is_above_0(written):
    np.testing.assert_array_equal(read_mask(written / "grey.png"), VALUES > 0)
    np.testing.assert_array_equal(read_mask(written / "rgb.png"), VALUES > 0)
    np.save(written / "mask.npy", VALUES - 1.5)
    np.testing.assert_array_equal(read_mask(written / "mask.npy"), VALUES > 1)
    with pytest.raises(BadImage, match=r"grey.png cannot be read: it is 2 x 4; expected 3 x 4"):
        read_mask(written / "grey.png", (3, 4))


class TestFolders:
    @pytest.fixture
    def folders(self, tmp_path):
        names = {"images": ("b.tif", "a.ome.tif", "über.JPG"), "labels": ("a.png", "b.npy")}
        for folder, files in names.items():
            for file in (*files, ".hidden.png", "notes.txt"):
                (tmp_path / folder).mkdir(exist_ok=True)
                (tmp_path / folder / file).touch()
        (tmp_path / "labels" / unicodedata.normalize("NFD", "über.png")).touch()
        (tmp_path / "labels" / "folder.png").mkdir()
        return tmp_path / "images", tmp_path / "labels"

    def test_are_matched_by_name(self, folders):
        pairs = [(image.name, label.name) for image, label in matched(*folders)]
        assert pairs[:2] == [("a.ome.tif", "a.png"), ("b.tif", "b.npy")]
        assert [unicodedata.normalize("NFC", name) for name in pairs[2]] == ["über.JPG", "über.png"]

    def test_files_without_a_partner_are_named(self, folders):
        images, labels = folders
        for i in range(7):
            (images / f"x{i}.png").touch()
        (labels / "lonely.png").touch()
        with pytest.raises(ValueError, match="images and labels do not match: ") as refusal:
            matched(images, labels)
        shown = ", ".join(str(images / f"x{i}.png") for i in range(5))
        assert (
            f"{shown} and 2 more have no label image; {labels / 'lonely.png'} has no image"
            in str(refusal.value)
        )

    def test_one_image_a_name(self, folders):
        (folders[1] / "a.tif").touch()
        with pytest.raises(ValueError, match=r"^labels holds .*a.png and .*a.tif; expected one"):
            matched(*folders)

    def test_no_folder_and_an_empty_one(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            pictures_in(tmp_path / "nothing")
        with pytest.raises(ValueError, match=r"^folder is .*, which holds no image"):
            pictures_in(tmp_path)
        Path(tmp_path, "file").touch()
        with pytest.raises(NotADirectoryError):
            pictures_in(tmp_path / "file")

    def test_names_that_are_no_text(self, folders):
        os.close(os.open(os.fsencode(folders[0]) + b"/\xff.png", os.O_CREAT))
        with pytest.raises(ValueError, match="has no label image of the same name"):
            matched(*folders)
