"""A small GGUF v3 writer: keys and tensors in, bytes out. Little-endian, alignment 32."""

import struct

import numpy as np

ALIGNMENT = 32
F32, F16 = 0, 1  # tensor types

_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9


def _string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _scalar(kind, value):
    if kind == _STRING:
        return _string(value)
    code = {_UINT32: "<I", _INT32: "<i", _FLOAT32: "<f", _BOOL: "<?"}[kind]
    return struct.pack(code, value)


class GgufWriter:
    """Collects keys and tensors in the order they are given; write() makes the file."""

    def __init__(self):
        self._keys = []  # [(name, bytes)]
        self._tensors = []  # [(name, array as stored, type)]

    def _add(self, key, kind, value):
        self._keys.append((key, struct.pack("<I", kind) + _scalar(kind, value)))

    def _add_array(self, key, kind, values):
        body = struct.pack("<IIQ", _ARRAY, kind, len(values))
        self._keys.append((key, body + b"".join(_scalar(kind, v) for v in values)))

    def u32(self, key, value):
        self._add(key, _UINT32, value)

    def f32(self, key, value):
        self._add(key, _FLOAT32, value)

    def boolean(self, key, value):
        self._add(key, _BOOL, value)

    def string(self, key, value):
        self._add(key, _STRING, value)

    def strings(self, key, values):
        self._add_array(key, _STRING, values)

    def floats(self, key, values):
        self._add_array(key, _FLOAT32, values)

    def i32s(self, key, values):
        self._add_array(key, _INT32, values)

    def tensor(self, name, array):
        """array is float32 or float16, row-major; GGUF lists its dimensions innermost first."""
        kind = {np.dtype(np.float32): F32, np.dtype(np.float16): F16}[array.dtype]
        self._tensors.append((name, np.ascontiguousarray(array), kind))

    def write(self, path):
        head = [b"GGUF", struct.pack("<IQQ", 3, len(self._tensors), len(self._keys))]
        for name, body in self._keys:
            head.append(_string(name) + body)
        data, offset = [], 0
        for name, array, kind in self._tensors:
            dims = array.shape[::-1]
            head.append(_string(name) + struct.pack("<I", len(dims)))
            head.append(struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, offset))
            raw = array.tobytes()
            raw += b"\0" * (-len(raw) % ALIGNMENT)
            data.append(raw)
            offset += len(raw)
        header = b"".join(head)
        header += b"\0" * (-len(header) % ALIGNMENT)
        with open(path, "wb") as file:
            file.write(header + b"".join(data))
