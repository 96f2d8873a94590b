"""JSON files that a study leaves behind: a path in, records whose values are checked as they are asked for out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from behavegpt.errors import InputError, did_you_mean

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Record:
    """One JSON object; what is wrong with a value is one sentence that names the file and the key."""

    path: Path
    where: str
    """Of this object in its file, such as 'trunks[2].'."""
    values: Mapping[str, Any]

    def number(self, key: str) -> float:
        """Return a number; NaN is one."""
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, "a number")
        return float(value)

    def maybe_number(self, key: str) -> float | None:
        """Return a number, None where it is null or absent."""
        return None if self.values.get(key) is None else self.number(key)

    def text(self, key: str) -> str:
        """Return a text."""
        if not isinstance(self._get(key), str):
            raise self.wrong(key, "a text")
        return self.values[key]

    def flag(self, key: str) -> bool:
        """Return true or false."""
        if not isinstance(self._get(key), bool):
            raise self.wrong(key, "true or false")
        return self.values[key]

    def counts(self, key: str) -> tuple[int, ...]:
        """Return a list of positive whole numbers."""
        value = self._get(key)
        if not isinstance(value, list) or not all(type(item) is int and item > 0 for item in value):
            raise self.wrong(key, "a list of positive whole numbers")
        return tuple(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts, empty where it is null or absent."""
        value = self.values.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, "a list of texts")
        return tuple(value)

    def record(self, key: str) -> "Record":
        """Return the object below a key, an empty one where it is null or absent."""
        value = self.values.get(key) or {}
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return Record(self.path, f"{self.where}{key}.", value)

    def records(self, key: str) -> tuple["Record", ...]:
        """Return a list of objects, empty where it is null or absent."""
        value = self.values.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, "a list of objects")
        return tuple(Record(self.path, f"{self.where}{key}[{at}].", item) for at, item in enumerate(value))

    def wrong(self, key: str, allowed: str) -> InputError:
        """Return the error about a value that is not what it must be."""
        value = self.values.get(key, _ABSENT)
        found = "is missing" if value is _ABSENT else f"is {_shown(value)}"
        hint = did_you_mean(key, self.values) if value is _ABSENT else ""
        return InputError(f"{self.path}: {self.where}{key} {found}; it must be {allowed}.{hint}")

    def _get(self, key: str) -> Any:
        return self.values.get(key, _ABSENT)


def read_record(path: Path) -> Record | None:
    """Return the object that a file holds, None where there is no file.

    Raises:
        InputError: The file is not JSON, or holds no object.
    """
    value = _load(path)
    if value is _ABSENT:
        return None
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds {_shown(value)}, not an object.")
    return Record(path, "", value)


def read_list(path: Path) -> tuple[Record, ...]:
    """Return the objects of the list that a file holds, none where there is no file.

    Raises:
        InputError: The file is not JSON, or holds no list of objects.
    """
    value = _load(path)
    if value is _ABSENT:
        return ()
    if not isinstance(value, list):
        raise InputError(f"{path}: holds {_shown(value)}, not a list.")
    return Record(path, "", {"entry": value}).records("entry")


def _load(path: Path) -> Any:
    if not path.is_file():
        return _ABSENT
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from error


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
