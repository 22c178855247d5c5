"""Framing, checksum and wire format, against what others wrote and read."""

import struct

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c as their_masked_crc32c
from tensorboard.summary.writer.record_writer import RecordWriter

from framecast.core.errors import UserError
from framecast.data.readers.tfrecord_format import (
    MAX_RECORD_BYTES,
    DamagedExample,
    crc32c,
    feature,
    is_records,
    make_example,
    masked_crc32c,
    parse_example,
    read_record,
    scan,
    write_record,
)


def example_class():
    """tf.Example as protobuf's own library knows it, from its published definition."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    repeated, optional = 3, 1

    def message(name, *fields):
        made = file.message_type.add(name=name)
        for number, (label, field, kind, type_name) in enumerate(fields, 1):
            one = made.field.add(name=field, number=number, label=label, type=kind)
            if type_name:
                one.type_name = type_name
        return made

    message("BytesList", (repeated, "value", 12, ""))
    message("FloatList", (repeated, "value", 2, ""))
    message("Int64List", (repeated, "value", 3, ""))
    kinds = [(optional, f"{k}_list", 11, f".t.{k.title()}List") for k in ("bytes", "float", "int64")]
    feature_ = message("Feature", *kinds)
    feature_.oneof_decl.add(name="kind")
    for field in feature_.field:
        field.oneof_index = 0
    features = message("Features", (repeated, "feature", 11, ".t.Features.FeatureEntry"))
    entry = features.nested_type.add(name="FeatureEntry")
    entry.field.add(name="key", number=1, label=optional, type=9)
    entry.field.add(name="value", number=2, label=optional, type=11, type_name=".t.Feature")
    entry.options.map_entry = True
    message("Example", (optional, "features", 11, ".t.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


def by_bits(data):
    """CRC-32C as the standard defines it, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_published_checksums():
    """RFC 3720, appendix B.4."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0


@pytest.mark.parametrize("size", [1, 3, 63, 64, 65, 255, 256, 257, 1000])
def test_checksum_of_any_length(size):
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(data) == by_bits(data)
    assert crc32c(memoryview(data)) == crc32c(bytearray(data))


@pytest.mark.parametrize("size", [65535, 65536, 65537, 65599, 65600, 200_001])
def test_checksum_over_several_chunks(size):
    data = np.random.default_rng(size).bytes(size)
    assert masked_crc32c(data) == their_masked_crc32c(data)


def test_framing_matches_tensorboard(tmp_path):
    payloads = [b"", b"abc", np.random.default_rng(0).bytes(70_000)]
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    with theirs.open("wb") as file:
        writer = RecordWriter(file)
        for payload in payloads:
            writer.write(payload)
    with ours.open("wb") as file:
        for payload in payloads:
            write_record(file, payload)
    assert ours.read_bytes() == theirs.read_bytes()
    places = scan(theirs)
    assert [length for _, length in places] == [0, 3, 70_000]
    assert [read_record(theirs, *place, number) for number, place in enumerate(places)] == payloads
    assert is_records(theirs)


def written(path, *payloads):
    with path.open("wb") as file:
        for payload in payloads:
            write_record(file, payload)
    return path


def damaged(path, offset, by=1):
    data = bytearray(path.read_bytes())
    data[offset] ^= by
    path.write_bytes(data)
    return path


def test_damage_is_reported(tmp_path):
    path = written(tmp_path / "a", b"first", b"second")
    damaged(path, 12)
    (first, second) = scan(path)
    with pytest.raises(UserError, match=r"a: record 0 is damaged \(its checksum is wrong\); copy the file again"):
        read_record(path, *first, 0)
    assert read_record(path, *second, 1) == b"second"
    damaged(path, 21)  # the length of the second
    with pytest.raises(UserError, match=r"a: is not a TFRecord, or damaged: the checksum of the length of record 1"):
        scan(path)
    assert scan(path, skip_bad=True) == [first]


@pytest.mark.parametrize("cut", [1, 5, 12, 18, 25])
def test_truncated_file_is_refused(tmp_path, cut):
    path = written(tmp_path / "a", b"first", b"second")
    path.write_bytes(path.read_bytes()[:-cut])
    number = 0 if cut > 22 else 1
    with pytest.raises(UserError, match=f"a: ends in the middle of record {number}; copy the file again"):
        scan(path)


def test_lengths_are_bounded(tmp_path):
    head = (MAX_RECORD_BYTES + 1).to_bytes(8, "little")
    path = tmp_path / "a"
    path.write_bytes(head + struct.pack("<I", masked_crc32c(head)) + b"x")
    with pytest.raises(UserError, match=r"record 0 claims 1073741825 bytes, more than the 1073741824 allowed"):
        scan(path)


def test_compressed_and_empty_files_are_refused(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\x1f\x8b\x08" + bytes(40))
    with pytest.raises(UserError, match=r"unpack it with gunzip"):
        scan(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"a is empty; copy the file again"):
        scan(path)
    assert not is_records(path)


FEATURES = {
    "image": [b"\x00\xff" * 300, b""],
    "pose": np.array([1.5, -2.25, 0.1], np.float32),
    "labels": np.array([0, 1, -1, 2**40, -(2**63), 2**63 - 1], np.int64),
    "naïve": [b"x"],
    "none": np.zeros(0, np.float32),
}


def test_written_example_is_read_by_protobuf():
    message = example_class()()
    message.ParseFromString(make_example(FEATURES))
    found = message.features.feature
    assert set(found) == set(FEATURES)
    assert list(found["image"].bytes_list.value) == FEATURES["image"]
    np.testing.assert_array_equal(found["pose"].float_list.value, FEATURES["pose"])
    assert list(found["labels"].int64_list.value) == FEATURES["labels"].tolist()


def test_example_of_protobuf_is_read():
    message = example_class()()
    message.features.feature["image"].bytes_list.value.extend(FEATURES["image"])
    message.features.feature["pose"].float_list.value.extend(FEATURES["pose"].tolist())
    message.features.feature["labels"].int64_list.value.extend(FEATURES["labels"].tolist())
    message.features.feature["nothing"].Clear()
    found = {name: feature(value) for name, value in parse_example(message.SerializeToString()).items()}
    assert found["image"] == FEATURES["image"]
    assert found["nothing"] == []
    for name in ("pose", "labels"):
        assert found[name].dtype == FEATURES[name].dtype
        np.testing.assert_array_equal(found[name], FEATURES[name])


def test_unpacked_lists_are_read():
    floats = b"".join(b"\x0d" + struct.pack("<f", value) for value in (1.0, 2.0))
    whole = b"\x08\x07\x08\x2a"
    np.testing.assert_array_equal(feature(memoryview(b"\x12" + bytes([len(floats)]) + floats)), [1, 2])
    np.testing.assert_array_equal(feature(memoryview(b"\x1a" + bytes([len(whole)]) + whole)), [7, 42])


def test_damaged_examples_are_refused_and_never_crash():
    payload = make_example(FEATURES)
    for cut in (1, 2, 5, 700):
        with pytest.raises(DamagedExample):
            parse_example(payload[:-cut])
    rng = np.random.default_rng(0)
    for _ in range(300):
        noisy = bytearray(payload)
        for at in rng.integers(0, 40, 3):
            noisy[at] = rng.integers(256)
        try:
            for value in parse_example(bytes(noisy)).values():
                feature(value)
        except DamagedExample:
            pass
