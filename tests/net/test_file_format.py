"""The bytes of a file: the same for the same content, and refused where they are anything else."""

import errno
import json
import os
import re
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from net import file_format, load
from net.file_format import BadCheckpoint, opened, write
from tests.net.crafted import KEY, parts, small_net, whole

ARRAYS = {
    "net/a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "net/b": np.array([np.nan, -0.0]),
    "run/empty": np.zeros(0),
}


WHOLE_ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [16, 40]}
"""Of ``net/a``."""


@pytest.fixture
def path(tmp_path):
    """Of a file with two arrays and an empty one."""
    write(tmp_path / "file", {"net": {"x": [1, 0.1, None, "ü"]}}, ARRAYS)
    return tmp_path / "file"


def refused(path, content, message):
    """Reading ``content`` raises BadCheckpoint with the path and the message."""
    path.write_bytes(content)
    with pytest.raises(BadCheckpoint, match=f"^{re.escape(str(path))} .*{message}"):
        read(path)


def read(path):
    with opened(path) as contents:
        return contents.document, contents.arrays()


def changed(path, change):
    """The file with its header, document and data changed, and then a right length and checksum."""
    header, document, data = parts(path.read_bytes())
    result = change(header, document)
    return whole(header, document if result is None else result, data)


class TestWriting:
    def test_what_is_written_is_read(self, path):
        document, arrays = read(path)
        assert document["net"] == {"x": [1, 0.1, None, "ü"]}
        assert {n: a.tobytes() for n, a in arrays.items()} == {
            n: a.tobytes() for n, a in ARRAYS.items()
        }
        assert all(array.flags.writeable for array in arrays.values())

    def test_any_reader_of_safetensors_reads_the_arrays(self, path):
        arrays = load_file(path)
        assert {n: a.tobytes() for n, a in arrays.items()} == {
            n: a.tobytes() for n, a in ARRAYS.items()
        }

    def test_arrays_of_any_order_and_byte_order(self, tmp_path):
        array = np.arange(12, dtype=np.float32).reshape(3, 4)
        odd = {
            "net/fortran": np.asfortranarray(array),
            "net/slices": np.repeat(array, 2, axis=1)[:, ::2],
            "net/big": array.astype(">f4"),
            "net/back": array[::-1][::-1],
        }
        write(tmp_path / "file", {}, odd)
        for read_back in read(tmp_path / "file")[1].values():
            np.testing.assert_array_equal(read_back, array)
            assert read_back.dtype == np.float32

    def test_the_same_content_gives_the_same_bytes_in_every_process(self, tmp_path):
        program = (
            "import sys; from net.learning import checkpoint\n"
            "from tests.net.crafted import small_run\n"
            "checkpoint.save(sys.argv[1], small_run())\n"
        )
        contents = set()
        for seed in "123":
            path = tmp_path / seed
            environment = os.environ | {"PYTHONHASHSEED": seed}
            subprocess.run([sys.executable, "-c", program, path], env=environment, check=True)
            contents.add(path.read_bytes())
        assert len(contents) == 1

    def test_a_document_too_large_to_be_read_is_not_written(self, tmp_path, monkeypatch):
        monkeypatch.setattr(file_format, "MAX_HEADER", 1000)
        with pytest.raises(ValueError, match=r"takes .* bytes; expected at most 1000"):
            write(tmp_path / "file", {"net": "x" * 1000}, {})
        assert os.listdir(tmp_path) == []


class TestBytes:
    @pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 100, -1])
    def test_truncated(self, path, kept):
        content = path.read_bytes()
        message = "arrays take .* bytes" if kept == -1 else "truncated"
        refused(path, content[:kept], message)

    def test_longer(self, path):
        refused(path, path.read_bytes() + b"x", "its arrays take 40 bytes, and 41 follow the head")

    @pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40, 10**6])
    def test_a_header_longer_than_the_file_is_not_allocated(self, path, length):
        tracemalloc.start()
        refused(path, length.to_bytes(8, "little") + path.read_bytes()[8:], "truncated")
        assert tracemalloc.get_traced_memory()[1] < 10**6
        tracemalloc.stop()

    def test_a_header_that_is_too_long(self, path):
        length = file_format.MAX_HEADER + 1
        content = length.to_bytes(8, "little") + b" " * length
        refused(path, content, f"header takes {length} bytes; expected at most {length - 1}")

    def test_every_flipped_byte_of_the_data_is_noticed(self, path):
        content = path.read_bytes()
        for i in range(len(content) - 40, len(content)):
            refused(path, content[:i] + bytes([content[i] ^ 64]) + content[i + 1 :], "checksum")

    def test_a_flipped_digit_of_the_document_is_noticed(self, path):
        content = path.read_bytes()
        assert content.count(b"0.1") == 1
        refused(path, content.replace(b"0.1", b"0.3"), "checksum is wrong")

    def test_other_files(self, path):
        refused(path, b"\x89PNG\r\n\x1a\n" + bytes(100), "truncated, or no safetensors")
        refused(path, save({"x": np.ones(3)}), "header.__metadata__ is None; expected an object")
        refused(path, save({"x": np.ones(3)}, {"format": "pt"}), "keys .'format'.; expected regul")

    def test_an_npz_names_the_command(self, path):
        np.savez(path.with_suffix(".npz"), x=np.ones(3))
        command = f"python -m net convert {re.escape(str(path))} NEW"
        refused(path, path.with_suffix(".npz").read_bytes(), command)

    def test_the_system_s_errors(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "nothing")
        with pytest.raises(IsADirectoryError):
            read(tmp_path)
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OSError, match="pipe") as refusal:
            read(tmp_path / "pipe")
        assert refusal.value.errno == errno.EINVAL


class TestHeader:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "header is no JSON of this format"),
            ("[]", r"header is \[\]; expected an object"),
            ("3", "header is 3"),
            ("{", "no JSON"),
            ('{"a":1,"a":2}', "a key stands there twice"),
            ('{"a":NaN}', "NaN is no number"),
            ('{"a":-Infinity}', "-Infinity is no number"),
            ('{"a":1e999}', "1e999 is beyond float64"),
            ('{"a":18446744073709551616}', "18446744073709551616 takes more than 64 bits"),
            ('{"a":' + "9" * 10000 + "}", "9{40} takes more than 64 bits"),
            ("[" * 100_000, "nested more than 16 deep"),
            ('{"a":' * 17 + "1" + "}" * 17, "nested more than 16 deep"),
            ('"' + '\\"' * 100_000, "no JSON"),
            ("\ud800".encode("utf-16", "surrogatepass").decode("latin-1"), "no JSON"),
            ("{}", "__metadata__ is None; expected an object"),
            ('{"__metadata__":{}}', r"has the keys \[\]; expected regularly-sparse"),
            ('{"__metadata__":{"regularly-sparse":3}}', "holds 3; expected a text"),
            ('{"__metadata__":{"regularly-sparse":"\\ud800"}}', "surrogates not allowed"),
            ('{"__metadata__":{"regularly-sparse":"{}","x":"y"}}', "has the keys"),
            ('{"__metadata__":{"regularly-sparse":"x"}}', "document is no JSON"),
        ],
        ids=lambda value: value[:20],
    )
    def test_what_is_no_header(self, path, text, message):
        refused(path, whole(text, {}, b""), message)

    def test_text_of_another_encoding(self, path):
        text = b'{"\xff":1}'
        refused(path, len(text).to_bytes(8, "little") + text, "no JSON of this format: 'utf-8'")

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            (3, "array 'net/a' is 3; expected an object"),
            ({"dtype": "F32"}, "array 'net/a' has the keys"),
            ({"more": 1}, "array 'net/a' has the keys"),
            ({"dtype": "I64"}, "dtype 'I64'; expected F32 or F64"),
            ({"dtype": ["F32"]}, "dtype .*'F32'"),
            ({"shape": [2, -3]}, "shape .*; expected ints of at least 0"),
            ({"shape": [2, 3.0]}, "shape .*; expected ints of at least 0"),
            ({"shape": [2, True, 3]}, "shape .*; expected ints of at least 0"),
            ({"shape": 6}, "shape 6; expected ints of at least 0"),
            ({"shape": [1] * 9}, "shape .*; expected ints of at least 0"),
            ({"shape": [2, 4]}, "expected two that span shape"),
            ({"shape": [2**63, 2**63]}, "expected two that span shape"),
            ({"dtype": "F64"}, "expected two that span shape"),
            ({"data_offsets": [16]}, "expected two that span shape"),
            ({"data_offsets": [40, 16]}, "expected two that span shape"),
            ({"data_offsets": [-8, 16]}, "data_offsets .*; expected ints of at least 0"),
            ({"data_offsets": [0, 24]}, "overlap or leave a hole at byte 0|at byte 16"),
            ({"data_offsets": [17, 41]}, "overlap or leave a hole at byte 16"),
            ({"data_offsets": [2**62, 2**62 + 24]}, "overlap or leave a hole at byte 16"),
        ],
        ids=str,
    )
    def test_what_is_no_entry(self, path, entry, message):
        def change(header, _):
            assert header["net/a"] == WHOLE_ENTRY
            header["net/a"] = entry if entry in (3, {"dtype": "F32"}) else WHOLE_ENTRY | entry

        refused(path, changed(path, change), message)

    def test_an_array_twice(self, path):
        _, document, data = parts(path.read_bytes())
        entry = '"net/a":{"dtype":"F32","shape":[2,3],"data_offsets":[16,40]}'
        text = f'{{"__metadata__":{{{json.dumps(KEY)}:"{{}}"}},{entry},{entry}}}'
        refused(path, whole(text, document, data), "a key stands there twice")

    def test_an_array_too_few_leaves_a_hole(self, path):
        refused(path, changed(path, lambda h, _: h.pop("net/b") and None), "leave a hole at byte 0")


class TestVersions:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": "other"}, "it is a 'other'; expected a 'regularly-sparse'"),
            ({"format": None}, "it is a None"),
            ({"version": [3, 0]}, r"version \[3, 0\] is newer than \[2, 1\]"),
            ({"version": [1, 0]}, r"version \[1, 0\] is other than \[2, 1\]"),
            ({"version": [-2, 0]}, r"version is \[-2, 0\]; expected \[major, minor\]"),
            ({"version": [2, -1]}, r"version is \[2, -1\]; expected"),
            ({"version": 2}, "version is 2; expected"),
            ({"version": [2]}, r"version is \[2\]; expected"),
            ({"version": [2.0, 0]}, r"version is \[2.0, 0\]; expected"),
            ({"version": [True, False]}, "version is .*; expected"),
            ({"requires": None}, "requires is None; expected a list of keys"),
            ({"requires": [3]}, r"requires is \[3\]; expected a list of keys"),
            ({"requires": ["x"]}, "needs .'x'., unknown to .2, 1"),
            ({"version": [2, 2], "requires": ["x"]}, r"\[2, 2\] needs .'x'., unknown to .2, 1"),
            ({"scale": [1]}, "holds .'scale'., unknown to its version .2, 1"),
            ({"checksum": None}, "its checksum is wrong"),
        ],
        ids=str,
    )
    def test_refused(self, path, change, message):
        header, document, data = parts(path.read_bytes())
        document |= change
        if document["checksum"] is None:
            document["checksum"] = "none"
            content = whole(header, json.dumps(document), data)
        else:
            content = whole(header, document, data)
        refused(path, content, message)

    def test_the_document_must_be_of_this_format(self, path):
        refused(path, changed(path, lambda *_: {}), "it is a None; expected a 'regularly-sparse'")

    def test_what_a_newer_minor_version_adds_is_passed_over(self, path):
        header, document, data = parts(path.read_bytes())
        document |= {"version": [2, 7], "scale": ["a", "b"], "anything": {"x": [1]}}
        data += struct.pack("<2d", 1, 2)
        header["more/colors"] = {"dtype": "F64", "shape": [2], "data_offsets": [40, 56]}
        path.write_bytes(whole(header, document, data))
        assert read(path)[0]["net"] == {"x": [1, 0.1, None, "ü"]}
        document["version"] = [2, 0]
        refused(path, whole(header, document, data), "it holds .'anything', 'more/colors', 'scale'")

    def test_a_net_with_additions_is_loaded(self, tmp_path):
        path, net = tmp_path / "net", small_net()
        net.save(path)
        header, document, data = parts(path.read_bytes())
        document |= {"version": [2, 2], "scale": 3}
        header["more/x"] = {"dtype": "F32", "shape": [0], "data_offsets": [len(data)] * 2}
        path.write_bytes(whole(header, document, data))
        assert load(path, backend="reference").layers == net.layers
