"""Read structs of Thrift's compact protocol, in which Parquet writes its metadata, without trusting them.

In: bytes that anyone may have written. Out: numbers, bytes, lists and structs, the latter as field number -> value.
Arrow's Python classes for metadata end the process on some nonsense; this raises an error on all of it. The protocol:
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from typing import Any

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_NUMBERS = (_I16, _I32, _I64)
_MAX_DEPTH = 16
"""Parquet's metadata nests nine deep."""

Struct = dict[int, Any]


class ThriftError(ValueError):
    """The bytes are no struct, or hold more values than they may."""


class ThriftReader:
    """Reads structs from some bytes, one after another."""

    def __init__(self, data: bytes, position: int = 0, *, max_values: int, max_items: int) -> None:
        """Limit how many values there are in all, and how many items a list has."""
        self.data = data
        self.position = position
        self.values_left = max_values
        self.max_items = max_items

    def read_struct(self, depth: int = 0) -> Struct:
        """Return the struct that begins at the position, and move past it."""
        if depth > _MAX_DEPTH:
            raise ThriftError
        found: Struct = {}
        field = 0
        while head := self._byte():
            step = head >> 4
            field = field + step if step else self._number()
            kind = head & 15
            found[field] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        self.values_left -= 1
        if self.values_left < 0:
            raise ThriftError
        if kind in _NUMBERS:
            return self._number()
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind == _STRUCT:
            return self.read_struct(depth + 1)
        if kind in (_LIST, _SET):
            return self._list(depth)
        if kind in (_BYTE, _TRUE, _FALSE):
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        # Parquet's metadata has no maps.
        raise ThriftError

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        size = head >> 4 if head >> 4 < 15 else self._varint()
        if size > self.max_items:
            raise ThriftError
        return [self._value(head & 15, depth) for _ in range(size)]

    def _bytes(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self.data):
            raise ThriftError
        start, self.position = self.position, end
        return self.data[start:end]

    def _byte(self) -> int:
        if self.position >= len(self.data):
            raise ThriftError
        self.position += 1
        return self.data[self.position - 1]

    def _number(self) -> int:
        zigzag = self._varint()
        return (zigzag >> 1) ^ -(zigzag & 1)

    def _varint(self) -> int:
        if self.position < len(self.data) and (only := self.data[self.position]) < 128:
            self.position += 1
            return only
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ThriftError
