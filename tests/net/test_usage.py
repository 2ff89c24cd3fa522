"""What a net's file says beyond the net: kept, checked, and applied in one place."""

import copy
import pickle
import re
from dataclasses import fields, replace

import numpy as np
import pytest

from net import Net, load
from net.file_format import USAGE as KEYS
from net.file_format import BadCheckpoint
from net.images import net_input
from net.layers import Convolution
from net.learning import checkpoint
from net.usage import LabelRule, Normalization, Usage
from tests.net.crafted import USAGE, parts, small_net, small_run, whole

BLACK, RED, GREEN, WHITE = (0, 0, 0), (255, 0, 0), (0, 255, 0), (255, 255, 255)


def used_net(**options):
    net = small_net(**options)
    net.usage = USAGE
    return net


class TestFiles:
    def test_nets_and_runs_keep_it(self, tmp_path):
        net = used_net()
        net.save(tmp_path / "net")
        checkpoint.save(tmp_path / "run", small_run(net))
        assert load(tmp_path / "net", backend="reference").usage == USAGE
        assert load(tmp_path / "run", backend="reference").usage == USAGE
        assert checkpoint.load(tmp_path / "run", backend="reference").net.usage == USAGE

    def test_copies_keep_it(self):
        net = used_net()
        copies = (net.to(dtype="float64"), pickle.loads(pickle.dumps(net)), copy.deepcopy(net))
        assert [one.usage for one in copies] == [USAGE] * 3
        assert net.without_softmax().usage == USAGE

    def test_every_key_is_known_to_the_format(self):
        assert {"receptive_field", *(field.name for field in fields(Usage))} == set(KEYS)

    def test_without_any(self, tmp_path):
        small_net().save(tmp_path / "net")
        _, document, _ = parts((tmp_path / "net").read_bytes())
        assert document.keys() & set(KEYS) == {"receptive_field"}
        assert document["requires"] == []
        assert load(tmp_path / "net", backend="reference").usage is None

    @pytest.mark.parametrize("usage", [Usage(), Usage(label_rule=LabelRule(BLACK, (RED, GREEN)))])
    def test_defaults_and_colors_come_back(self, tmp_path, usage):
        net = Net([Convolution(2, 3)], channels=1, patch=3, backend="reference")
        net.usage = usage
        net.save(tmp_path / "net")
        assert load(tmp_path / "net", backend="reference").usage == usage

    def test_files_of_2_0_are_read(self, tmp_path):
        small_net().save(tmp_path / "net")
        header, document, data = parts((tmp_path / "net").read_bytes())
        del document["receptive_field"]
        document["version"] = [2, 0]
        (tmp_path / "net").write_bytes(whole(header, document, data))
        assert load(tmp_path / "net", backend="reference").usage is None

    def test_scores_need_the_normalization(self, tmp_path):
        used_net().save(tmp_path / "net")
        _, document, _ = parts((tmp_path / "net").read_bytes())
        assert document["requires"] == ["normalization"]

    def test_the_halo_is_what_a_label_depends_on(self, tmp_path):
        net = Net([Convolution(2, (2, 5), stride=3)], channels=1, patch=(4, 5), backend="reference")
        net.save(tmp_path / "net")
        field = parts((tmp_path / "net").read_bytes())[1]["receptive_field"]
        assert field == {"size": [2, 5], "halo": [1, 2, 0, 2]}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"normalization": {"mean": [1]}}, "normalization has the keys .'mean'."),
            ({"normalization": {"mean": [1], "deviation": [0]}}, "deviation is 0.0; expected a nu"),
            ({"normalization": {"mean": ["1"], "deviation": [1]}}, "mean is '1'; expected a finit"),
            ({"normalization": {"mean": [1, 1], "deviation": [1, 1]}}, "is of 2 channels"),
            ({"normalization": {"mean": [1], "deviation": [1, 1]}}, "deviation is of 2 channels"),
            ({"normalization": None}, "normalization is None; expected it to be left out"),
            ({"class_names": ["a", "b"]}, "class_names are 2; the net has classes 3"),
            ({"class_names": ["a", "a", "b"]}, "class_names is .*; expected each name once"),
            ({"class_names": ["a", "\n", "b"]}, "class_names is .*; expected printable texts"),
            ({"class_names": "abc"}, "class_names is 'abc'; expected printable texts"),
            ({"colors": [[1, 2, 3]] * 2}, "colors are 2; the net has classes 3"),
            ({"colors": [[1, 2, 256]] * 3}, "colors is .*; expected .red, green, blue."),
            ({"colors": [[1, 2, True]] * 3}, "colors is .*; expected .red, green, blue."),
            ({"label_rule": {"unlabelled": 0}}, "label_rule has the keys"),
            ({"label_rule": {"unlabelled": -2, "values": None}}, "unlabelled is -2; expected an i"),
            ({"label_rule": {"unlabelled": 0, "values": [1, 2]}}, "label_rule: values are 2; exp"),
            ({"label_rule": {"unlabelled": 1, "values": [1, 2, 3]}}, "expected each once"),
            ({"label_rule": {"unlabelled": 0, "values": [1, 2, 65536]}}, "values is 65536"),
            ({"label_rule": {"unlabelled": [0] * 3, "values": None}}, "or a color for each class"),
            ({"label_rule": {"unlabelled": 0, "values": [[1] * 3] * 3}}, "expected each once"),
            ({"border": "wrap"}, "border is 'wrap'; expected one of"),
            ({"training": 3}, "training is an int; expected a dict"),
            ({"training": {"\x00": 1}}, "a key of training is .*; expected a printable text"),
            ({"receptive_field": {"size": [5, 4], "halo": [0] * 4}}, "receptive_field is .*as the"),
            ({"receptive_field": None}, "receptive_field is None"),
        ],
        ids=str,
    )
    def test_damaged_ones_are_refused(self, tmp_path, change, message):
        path = tmp_path / "net"
        used_net().save(path)
        header, document, data = parts(path.read_bytes())
        path.write_bytes(whole(header, document | change, data))
        with pytest.raises(BadCheckpoint, match=f"^{re.escape(str(path))} .*{message}"):
            load(path, backend="reference")


class TestSetting:
    @pytest.mark.parametrize(
        ("usage", "message"),
        [
            ({"border": "zero"}, "^usage is a dict; expected a Usage"),
            (replace(USAGE, colors=USAGE.colors[:2]), "^colors are 2; the net has classes 3"),
            (
                Usage(normalization=Normalization((1, 2), (1, 1))),
                "^normalization is of 2 channels; the net has channels 1",
            ),
            (Usage(label_rule=LabelRule(0, (1, 2))), "^label_rule: values are 2; expected 3"),
        ],
    )
    def test_is_refused_there(self, usage, message):
        net = small_net()
        with pytest.raises((TypeError, ValueError), match=message):
            net.usage = usage
        assert net.usage is None

    @pytest.mark.parametrize(
        ("training", "message"),
        [
            ({"x": float("nan")}, "'x'. is nan; expected finite numbers"),
            ({"x": [np.float32(1)]}, "'x'. is a float32; expected what JSON holds"),
            ({3: 1}, "a key of training is 3; expected a printable text"),
            ({"x": (1, 2)}, "'x'. is a tuple; expected what JSON holds"),
            ({"x": 2**64}, "'x'. is 18446744073709551616; expected an int of at most 64 bits"),
        ],
        ids=str,
    )
    def test_a_record_that_json_would_not_give_back(self, training, message):
        with pytest.raises((TypeError, ValueError), match=message):
            Usage(training=training)
        endless = []
        endless.append(endless)
        with pytest.raises(ValueError, match="nested too deep"):
            Usage(training={"x": endless})


class TestNormalization:
    def test_is_that_of_all_pixels(self, rng):
        images = [rng.integers(0, 2**16, (3, *size), np.uint16) for size in ((7, 900), (1300, 5))]
        images += [np.full((3, 1, 1), 2**16 - 1, np.uint16)]
        pixels = np.concatenate([image.reshape(3, -1) for image in images], axis=1)
        normalization = Normalization.of(iter(images))
        np.testing.assert_allclose(normalization.mean, pixels.mean(axis=1), rtol=1e-14)
        np.testing.assert_allclose(normalization.deviation, pixels.std(axis=1), rtol=1e-13)

    def test_large_offsets_lose_nothing(self, rng):
        image = 1e9 + rng.random((1, 2000, 1500))
        normalization = Normalization.of([image])
        np.testing.assert_allclose(normalization.deviation, (image - 1e9).std(), rtol=1e-7)

    def test_a_constant_channel_is_only_centred(self):
        assert Normalization.of([np.full((1, 3, 4), 7)]) == Normalization((7,), (1,))

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_what_is_not_finite_is_named(self, bad):
        images = [np.zeros((1, 2, 2)), np.array([[[1, bad]]])]
        with pytest.raises(ValueError, match=r"images\[1\] holds NaN or infinities"):
            Normalization.of(images)


class TestNetInput:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float16", "float64", "bool"])
    def test_any_dtype_and_either_axis(self, dtype):
        net = Net([Convolution(2, 3)], channels=2, patch=3, backend="reference")
        image = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(dtype)
        for usage, mean, deviation in (
            (None, [0, 0], [1, 1]),
            (Usage(normalization=Normalization((300, -1), (4, 0.3))), [300, -1], [4, 0.3]),
        ):
            net.usage = usage
            expected = (image - np.reshape(mean, (2, 1, 1))) / np.reshape(deviation, (2, 1, 1))
            for given in (image, image.transpose(1, 2, 0)):
                normalized = net_input(net, given)
                assert normalized.flags.c_contiguous
                np.testing.assert_array_equal(normalized, expected.astype(np.float32))
                assert normalized.dtype == np.float32

    def test_either_axis_could_be_meant(self):
        net = Net([Convolution(2, 3)], channels=3, patch=3, backend="reference")
        image = np.arange(3 * 5 * 3).reshape(3, 5, 3)
        with pytest.raises(ValueError, match="photo has shape 3 x 5 x 3, whose first"):
            net_input(net, image, name="photo")
        np.testing.assert_array_equal(net_input(net, image, "first"), image)
        np.testing.assert_array_equal(net_input(net, image, "last"), image.transpose(2, 0, 1))

    def test_other_channels(self):
        with pytest.raises(ValueError, match="image has shape 4 x 5 x 6; expected 1 channel on th"):
            net_input(small_net(), np.zeros((4, 5, 6)))
        with pytest.raises(ValueError, match="expected 1 channel on the last axis"):
            net_input(small_net(), np.zeros((1, 5, 6)), "last")


class TestLabelRule:
    def test_0_is_unlabelled_and_nothing_wraps(self):
        """An image of bytes minus 1 would make 255 of 0."""
        labels = np.array([[0, 1, 2, 0]], np.uint8)
        decoded = LabelRule().decoded(labels, 2)
        assert (decoded.tolist(), decoded.dtype) == ([[-1, 0, 1, -1]], np.int32)
        with pytest.raises(
            ValueError, match=r"^labels hold 255; expected 0 \(unlabelled\) or 1, 2"
        ):
            LabelRule().decoded(labels - 1, 2)

    @pytest.mark.parametrize(
        ("rule", "dtype"),
        [
            (LabelRule(), np.uint8),
            (LabelRule(unlabelled=255), np.uint8),
            (LabelRule(unlabelled=-1), np.int8),
            (LabelRule(unlabelled=300), np.uint16),
            (LabelRule(0, (3, 1000, 2)), np.uint16),
            (LabelRule(None, (3, 0, 2)), np.float32),
            (LabelRule(BLACK, (RED, GREEN, WHITE)), np.uint8),
            (LabelRule(None, (RED, GREEN, BLACK)), np.uint8),
        ],
        ids=str,
    )
    def test_there_and_back(self, rule, dtype):
        least = 0 if rule.unlabelled is None else -1
        classes = np.arange(30).reshape(5, 6) % (3 - least) + least
        values = np.array((*rule.of(3), rule.unlabelled)) if least else np.array(rule.of(3))
        labels = values[classes].astype(dtype)
        np.testing.assert_array_equal(rule.decoded(labels, 3), classes)
        encoded = rule.encoded(classes, 3)
        assert encoded.dtype in (np.uint8, np.uint16)
        expected = np.where(labels == -1, 255, labels.astype(int))
        np.testing.assert_array_equal(encoded, expected)

    def test_what_stands_for_no_label_is_no_class(self):
        for rule in (LabelRule(None, (3, 255, 2)), LabelRule(-1, (255, 0, 1))):
            encoded = rule.encoded(np.array([[-1, 1]]), 3)
            assert encoded.tolist() == [[254, rule.values[1]]]
            assert encoded.dtype == np.uint8
        assert LabelRule(None, (RED, BLACK)).stand_in(2) == WHITE
        assert LabelRule(None, (WHITE, BLACK)).stand_in(2) == (254, 254, 254)
        assert LabelRule(None, tuple(range(256))).stand_in(256) == 65535
        with pytest.raises(ValueError, match="values are all classes"):
            LabelRule(None, (*range(256), 65535)).stand_in(257)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (np.array([[0, 3, 1]]), r"labels hold 3; expected 0 \(unlabelled\) or 1, 2 "),
            (np.array([[np.nan, 1]]), "labels hold nan; expected 0"),
            (np.array([[1.5, 1]]), "labels hold 1.5; expected 0"),
            (np.arange(100).reshape(4, 25), "labels hold 3, 4, 5, 6, 7, ...; expected"),
            (
                np.zeros((2, 2, 3), np.uint8),
                "labels are uint8 of shape .*; expected rows x columns$",
            ),
            (np.array([["a"]]), "labels have dtype <U1; expected real numbers"),
            (np.ma.array([[1]], mask=True), "labels is a masked array"),
        ],
        ids=str,
    )
    def test_other_values_are_named(self, labels, message):
        with pytest.raises((TypeError, ValueError), match=message):
            LabelRule().decoded(labels, 2)

    def test_other_colors_are_named(self):
        labels = np.array([[RED, (1, 2, 3)]], np.uint8)
        with pytest.raises(
            ValueError, match=r"^labels hold \(1, 2, 3\); expected \(0, 0, 0\) \(un"
        ):
            LabelRule(BLACK, (RED, GREEN)).decoded(labels, 2)
