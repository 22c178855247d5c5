"""Mutations of valid files that know their formats: absurd values with right lengths and checksums."""

import io
import json
import struct
import zipfile
import zlib

from framecast.data.readers.tfrecord_format import masked_crc32c

ABSURD = [
    *(None, True, False, -1, 0, 1, 2**31, 2**63, 10**30, 1e308, -1e-300, float("nan"), float("inf"), 0.5),
    *("", "x", "../../etc/passwd", "\x00", "9" * 4000, "é" * 5000, "/dev/zero", "-1", "nan", [], {}, [[]], {"": None}),
    *([0] * 3000, {"a": {"b": {"c": []}}}, [None], "1x1x1", "99999x9999x9999", ["x"], [1e308, "x"]),
]


def any_bytes(rng, data):
    """Bytes changed without knowledge of a format."""
    data, n = bytearray(data), max(1, len(data))
    kind, at = rng.integers(8), int(rng.integers(n))
    length = int(min(n - at, rng.integers(1, 64)))
    if kind == 0:
        return bytes(data[:at])
    if kind == 1:
        data[at : at + length] = rng.bytes(length)
    elif kind == 2:
        data[at : at + length] = bytes(length)
    elif kind == 3:
        data[at : at + length] = b"\xff" * length
    elif kind == 4:
        data[at:at] = data[at : at + length] * int(rng.integers(1, 20))
    elif kind == 5:
        del data[at : at + length]
    elif kind == 6:
        return rng.bytes(int(rng.integers(0, 200)))
    elif len(data):
        for _ in range(int(rng.integers(1, 9))):
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _places(value, place=()):
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*place, key))


def json_value(rng, value):
    """Plain data with one value replaced by an absurd one, removed, or under another name."""
    value = json.loads(json.dumps(value))
    places = list(_places(value))
    place = places[int(rng.integers(len(places)))]
    new = ABSURD[int(rng.integers(len(ABSURD)))]
    if not place:
        return new
    inside = value
    for key in place[:-1]:
        inside = inside[key]
    kind = rng.integers(6)
    if kind == 0:
        del inside[place[-1]]
    elif kind == 1 and isinstance(inside, dict):
        inside[str(new)[:50]] = inside.pop(place[-1])
    elif kind == 2 and isinstance(inside[place[-1]], int | float):
        inside[place[-1]] = inside[place[-1]] * 10 ** int(rng.integers(1, 12))
    else:
        inside[place[-1]] = new
    return value


def json_text(rng, data):
    """JSON text: a changed value, deep nesting, broken encoding or changed bytes."""
    kind = rng.integers(10)
    if kind == 0:
        return b"[" * 100_000
    if kind == 1:
        return b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    if kind == 2:
        return any_bytes(rng, data)
    try:
        value = json.loads(data)
    except ValueError:
        return any_bytes(rng, data)
    return json.dumps(json_value(rng, value)).encode()


def json_lines(rng, data):
    """JSON lines with one changed."""
    lines = data.split(b"\n")
    at = int(rng.integers(len(lines)))
    lines[at] = json_text(rng, lines[at] or b"{}")
    return b"\n".join(lines)


def yaml_text(rng, data):
    """YAML with references that multiply, wrong tags or changed values."""
    kind = rng.integers(6)
    if kind == 0:
        rows = [b"a0: &a0 [x, x]"] + [
            b"a%d: &a%d [%s]" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 9)
        ]
        return b"\n".join(rows)
    if kind == 1:
        tag = ["timestamp", "int", "float", "bool", "set", "binary", "omap", "python/object/apply:os.system"]
        return f"train: !!{tag[int(rng.integers(len(tag)))]} x{rng.integers(9)}\n".encode()
    if kind == 2:
        return b"a: " + b"[" * 5000
    if kind == 3:
        return b"a: &a [*a]"
    return any_bytes(rng, data) if kind == 4 else json_text(rng, data)


def npy(rng, data):
    """A .npy file with absurd values in a valid header."""
    headers = [
        "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }",
        "{'descr': '%s', 'fortran_order': %s, 'shape': %s",
        "{'descr': '%s', 'order': %s, 'shape': %s, }",
        "((((((%s%s%s",
        "%s'''%s%s",
    ]
    kinds = ["|u1", "<f8", "|O", "<U99999999", "zz", "<M8[s]", "|V0", "<i4,<i4", "|b1", "<f2", ">c16", ""]
    shapes = [
        "(4, 3, 8, 8)",
        "(-1,)",
        "(10**12,)",
        f"({2**63},)",
        "(0, 3, 8, 8)",
        "()",
        "'x'",
        "(1e3,)",
        "[4]",
        "(True,)",
    ]
    shapes += [f"({'1, ' * 60})", "(" * 500, "(99999999, 9999, 9999)", "None"]
    if rng.integers(4) == 0:
        return any_bytes(rng, data)

    def pick(options):
        return options[int(rng.integers(len(options)))]

    text = (pick(headers) % (pick(kinds), pick(["False", "True", "3"]), pick(shapes))).encode()
    version = pick([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"])
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", pick([len(text), len(text), 60_000, 0]))
    return b"\x93NUMPY" + version + size + text + data[128:]


def archive(rng, data, inner=npy):
    """A zip file whose members are changed, with right checksums."""
    if rng.integers(4) == 0:
        return any_bytes(rng, data)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        names = old.namelist()
        chosen = names[int(rng.integers(len(names)))]
        for name in names:
            content = old.read(name)
            if name == chosen:
                kind = rng.integers(4)
                content = inner(rng, content) if kind else bytes(1 << 22)
                name = [name, name.removesuffix(".npy"), "../x.npy", ""][int(rng.integers(4))] or name
            new.writestr(name, content)
    return out.getvalue()


def png(rng, data):
    """A PNG with an absurd header or changed data, and right checksums."""
    if rng.integers(3) == 0:
        return any_bytes(rng, data)
    out, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], bytearray(data[at + 8 : at + 8 + length])
        if kind == b"IHDR":
            choice = int(rng.integers(4))
            values = [
                int(v) for v in (rng.choice([0, 1, 8, 9000, 70_000, 2**31 - 1]), rng.choice([1, 8, 9000, 2**31 - 1]))
            ]
            body[0:8] = struct.pack(">II", *values) if choice == 0 else body[0:8]
            if choice == 1:
                body[8 + int(rng.integers(5))] = int(rng.integers(256))
        elif rng.integers(2):
            body = bytearray(any_bytes(rng, bytes(body)))
        out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + bytes(body)))
        at += 12 + length
    return bytes(out)


def records(rng, data):
    """TFRecords with a changed payload or length, and right checksums."""
    if rng.integers(4) == 0:
        return any_bytes(rng, data)
    out, at = b"", 0
    while at + 16 <= len(data):
        (length,) = struct.unpack("<Q", data[at : at + 8])
        payload = data[at + 12 : at + 12 + length]
        if rng.integers(2):
            payload = any_bytes(rng, payload)
        head = struct.pack("<Q", len(payload) if rng.integers(8) else int(rng.choice([0, 2**30 + 1, 2**62])))
        out += head + struct.pack("<I", masked_crc32c(head)) + payload + struct.pack("<I", masked_crc32c(payload))
        at += 16 + length
    return out


def tensors(rng, data):
    """A safetensors file with an absurd value in its header."""
    if rng.integers(3) == 0:
        return any_bytes(rng, data)
    (length,) = struct.unpack("<Q", data[:8])
    header = json_text(rng, data[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + data[8 + length :]
