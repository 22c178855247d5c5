"""TFRecord files without TensorFlow: framing, CRC-32C, and the wire format of tf.Example.

A file is a sequence of records: length (uint64), masked CRC of those eight bytes, payload, masked CRC of the payload,
all little-endian. The payload is a serialised tf.Example: a map of names to lists of bytes, floats or integers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

from framecast.core.errors import UserError

#: Maximum bytes of a record (1 GiB), as damaged bytes can claim any length.
MAX_RECORD_BYTES = 2**30

Buffer = bytes | bytearray | memoryview


# ---------------------------------------------------------------------------------------------------------- checksum


def crc32c(data: Buffer) -> int:
    """CRC-32C (Castagnoli) of `data`, 0…2^32 - 1."""
    return int(google_crc32c.value(data if isinstance(data, bytes) else bytes(data)))


def masked_crc32c(data: Buffer) -> int:
    """The checksum in TFRecord form: rotated right by 15 bits, plus a constant."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


# ----------------------------------------------------------------------------------------------------------- framing


def is_records(path: Path) -> bool:
    """Whether a file begins with a length and its checksum, as TFRecords do."""
    if not path.is_file():  # a pipe would block
        return False
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    return len(head) == 12 and struct.unpack("<I", head[8:])[0] == masked_crc32c(head[:8])


def scan(path: Path, skip_bad: bool = False) -> list[tuple[int, int]]:
    """(offset, length) of the payload of every record; payloads are not read.

    Args:
        path: TFRecord file.
        skip_bad: Stop at the first damage, after which no record can be located, instead of raising.

    Raises:
        UserError: The file is damaged or empty.
    """
    size, found, offset = path.stat().st_size, list[tuple[int, int]](), 0
    with path.open("rb", buffering=0) as file:
        while offset < size:
            file.seek(offset)
            head = file.read(12)
            what = _fault(head, size - offset)
            if what:
                if skip_bad:
                    return found
                raise UserError(f"{path}: {what.format(number=len(found))}; copy the file again")
            length = int.from_bytes(head[:8], "little")
            found.append((offset + 12, length))
            offset += 16 + length
    if not found and not skip_bad:
        raise UserError(f"{path} is empty; copy the file again")
    return found


def _fault(head: bytes, left: int) -> str:
    if head[:2] == b"\x1f\x8b" and head[2:3] == b"\x08" and (len(head) < 12 or not _fits(head)):
        return "is compressed, or damaged at record {number}; unpack it with gunzip if it is compressed"
    if len(head) < 12:
        return "ends in the middle of record {number}"
    if not _fits(head):
        return "is not a TFRecord, or damaged: the checksum of the length of record {number} is wrong"
    length = int.from_bytes(head[:8], "little")
    if length > MAX_RECORD_BYTES:
        return f"record {{number}} claims {length} bytes, more than the {MAX_RECORD_BYTES} allowed"
    return "ends in the middle of record {number}" if length + 16 > left else ""


def _fits(head: bytes) -> bool:
    return bool(struct.unpack("<I", head[8:12])[0] == masked_crc32c(head[:8]))


def read_record(path: Path, offset: int, length: int, number: int) -> bytes:
    """The payload of one record, verified by its checksum.

    Args:
        path: TFRecord file.
        offset: Offset of the payload, bytes.
        length: Length of the payload, bytes.
        number: Index of the record, for the message.

    Raises:
        UserError: The checksum is wrong.
    """
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        block = file.read(length + 4)
    payload = block[:length]
    if len(block) < length + 4 or struct.unpack("<I", block[length:])[0] != masked_crc32c(payload):
        raise UserError(
            f"{path}: record {number} is damaged (its checksum is wrong); copy the file again, or leave it out "
            "(--skip-bad)"
        )
    return payload


def write_record(file: BinaryIO, payload: bytes) -> None:
    """Append one record to an open file."""
    head = len(payload).to_bytes(8, "little")
    file.write(head + struct.pack("<I", masked_crc32c(head)))
    file.write(payload)
    file.write(struct.pack("<I", masked_crc32c(payload)))


# ----------------------------------------------------------------------------------------------------------- example

#: A list of a tf.Example: bytes, floats (float32) or integers (int64).
Value = list[bytes] | np.ndarray


class DamagedExample(ValueError):
    """Bytes that are not a tf.Example."""


def parse_example(payload: Buffer) -> dict[str, memoryview]:
    """Name -> encoded feature as a view, to be decoded by `feature`.

    Raises:
        DamagedExample: The payload is not a tf.Example.
    """
    view = memoryview(payload)
    found: dict[str, memoryview] = {}
    for features in _messages(view):
        for entry in _messages(features):
            name, value = "", view[:0]
            for field, part in _fields(entry):
                if field == 1:
                    try:
                        name = str(part, "utf-8")
                    except UnicodeDecodeError as error:
                        raise DamagedExample("a name is not UTF-8") from error
                elif field == 2:
                    value = part
            found[name] = value
    return found


def feature(encoded: memoryview) -> Value:
    """The list of an encoded feature: bytes, float32 or int64; an empty list if it has none.

    Raises:
        DamagedExample: The feature is damaged.
    """
    for kind, body in _fields(encoded):
        if kind == 1:
            return [bytes(part) for field, part in _fields(body) if field == 1]
        if kind == 2:
            return _floats(body)
        if kind == 3:
            return _integers(body)
    return []


def make_example(features: Mapping[str, Iterable[bytes] | np.ndarray]) -> bytes:
    """A serialised tf.Example.

    Args:
        features: Name -> list of bytes, floats (any float dtype) or integers.
    """
    entries = bytearray()
    for name, values in features.items():
        entry = _field(1, name.encode()) + _field(2, _encoded(values))
        entries += _field(1, entry)
    return _field(1, bytes(entries))


def _encoded(values: Iterable[bytes] | np.ndarray) -> bytes:
    if not isinstance(values, np.ndarray):
        return _field(1, b"".join(_field(1, part) for part in values))
    if values.dtype.kind == "f":
        return _field(2, _field(1, values.astype("<f4").tobytes()))
    body = b"".join(_varint(int(value) & (2**64 - 1)) for value in values.ravel())
    return _field(3, _field(1, body))


def _field(number: int, body: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(view) or shift > 63:
            raise DamagedExample("a number runs over the end")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(field number, bytes) of a message; numbers as their encoded bytes."""
    at, end = 0, len(view)
    while at < end:
        tag = view[at]
        at += 1
        if tag > 0x7F:
            tag, at = _read_varint(view, at - 1)
        kind = tag & 7
        if kind == 2:
            size = view[at] if at < end else 0x80
            at += 1
            if size > 0x7F:
                size, at = _read_varint(view, at - 1)
        elif kind == 0:
            size = _read_varint(view, at)[1] - at
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise DamagedExample(f"unknown wire type {kind}")
        if at + size > end:
            raise DamagedExample("a field runs over the end")
        yield tag >> 3, view[at : at + size]
        at += size


def _messages(view: memoryview) -> Iterator[memoryview]:
    return (part for number, part in _fields(view) if number == 1)


def _floats(body: memoryview) -> np.ndarray:
    """Floats in packed or unpacked encoding; both are valid."""
    parts = list(_messages(body))
    if any(len(part) % 4 for part in parts):
        raise DamagedExample("a list of floats is cut short")
    return np.frombuffer(b"".join(parts), "<f4").astype(np.float32)


def _integers(body: memoryview) -> np.ndarray:
    values: list[int] = []
    for part in _messages(body):
        at = 0
        while at < len(part):
            value, at = _read_varint(part, at)
            values.append(value)
    return np.array(values, np.uint64).astype(np.int64)
