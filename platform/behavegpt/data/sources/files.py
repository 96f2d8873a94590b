"""Find the files of a log: single files, globs, directories and URIs, on any filesystem that Arrow knows.

In: what the user gave as inputs. Out: the files, sorted, each with its format and compression; opened as byte streams.
"""

import fnmatch
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.fs as pafs

from behavegpt.data.sources.spec import LogFormat
from behavegpt.errors import did_you_mean

FORMATS: dict[str, LogFormat] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".dat": "csv",
    ".data": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
"""Suffix -> format; the first four kinds of text are told apart by their delimiters."""
LOG_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""What a directory is searched for; .txt, .dat and .data are logs only where they are named."""
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogFile:
    """One file of the log."""

    name: str
    """Path or URI, as messages show it."""
    num_bytes: int
    format: LogFormat
    compression: str | None
    """gzip, zstd or None."""
    tabs: bool
    """The name says that the delimiter is a tab."""

    @property
    def is_local(self) -> bool:
        """Whether the file can be mapped into memory."""
        return "://" not in self.name


def open_filesystem(name: str) -> tuple[pafs.FileSystem, str]:
    """Return the filesystem of a path or URI, and the path in it."""
    if "://" in name:
        return pafs.FileSystem.from_uri(name)
    return pafs.LocalFileSystem(), os.path.abspath(name)


def open_stream(file: LogFile) -> pa.NativeFile:
    """Return the decompressed bytes of a text file as a stream."""
    filesystem, path = open_filesystem(file.name)
    return filesystem.open_input_stream(path, compression=file.compression)


def open_file(file: LogFile) -> pa.NativeFile:
    """Return the bytes of a file, to be read from anywhere."""
    filesystem, path = open_filesystem(file.name)
    return filesystem.open_input_file(path)


def find_files(inputs: tuple[str, ...], wanted: LogFormat | None) -> tuple[list[LogFile], list[str]]:
    """Return the files of the log, each once and sorted by name, and every problem of the inputs.

    Args:
        wanted: The format, where suffixes do not matter.
    """
    if not inputs:
        return [], ["--input: name at least one file, glob, directory or URI"]
    found: dict[str, LogFile] = {}
    problems = []
    for given in inputs:
        try:
            files = [_log_file(info, name, wanted) for name, info in _matches(given, wanted)]
        except (OSError, pa.ArrowException, ValueError) as error:
            problems.append(f"--input {given}: cannot be listed ({_first_line(error)})")
            continue
        if not files:
            problems.append(_nothing_found(given))
        for file in files:
            if isinstance(file, str):
                problems.append(file)
            else:
                found.setdefault(_identity(file), file)
    return sorted(found.values(), key=lambda f: f.name), problems


def _identity(file: LogFile) -> str:
    """Return what two names of one file share: of local files the path without links, of others the name."""
    if file.is_local:
        return os.path.realpath(file.name)
    return os.path.realpath(open_filesystem(file.name)[1]) if file.name.startswith("file://") else file.name


def find_format(name: str) -> tuple[LogFormat | None, str | None, bool]:
    """Return the format, the compression and whether tabs delimit values, as a file's name says."""
    path = PurePosixPath(name.lower())
    compression = COMPRESSIONS.get(path.suffix)
    suffix = PurePosixPath(path.stem).suffix if compression else path.suffix
    return FORMATS.get(suffix), compression, suffix == ".tsv"


def _matches(given: str, wanted: LogFormat | None) -> Iterator[tuple[str, pafs.FileInfo]]:
    """Yield the name and info of every file that an input stands for; of a directory, those that look like logs."""
    scheme = given.partition("://")[0] + "://" if "://" in given else ""
    if _WILD.search(given) and (scheme or not os.path.exists(given)):
        base = PurePosixPath(*_fixed_parts(given.removeprefix(scheme)))
        for name, info in _walk(scheme, base, given.removeprefix(scheme)):
            if _glob_matches(name, given):
                yield name, info
        return
    filesystem, path = open_filesystem(given)
    info = filesystem.get_file_info(path)
    if info.type == pafs.FileType.File:
        yield given, info
    elif info.type == pafs.FileType.Directory:
        for name, inner in _below(filesystem, path, given):
            if _is_log(name[len(given) :], wanted):
                yield name, inner


def _walk(scheme: str, base: PurePosixPath, pattern: str) -> Iterator[tuple[str, pafs.FileInfo]]:
    root = scheme + ("" if str(base) == "." and scheme else str(base))
    filesystem, path = open_filesystem(root)
    if filesystem.get_file_info(path).type == pafs.FileType.Directory:
        prefix = "" if str(base) == "." and not pattern.startswith("./") else root
        yield from _below(filesystem, path, prefix)


def _below(filesystem: pafs.FileSystem, path: str, shown: str) -> Iterator[tuple[str, pafs.FileInfo]]:
    for info in filesystem.get_file_info(pafs.FileSelector(path, recursive=True)):
        if info.type == pafs.FileType.File:
            inner = info.path[len(path) :].lstrip("/")
            yield f"{shown.rstrip('/')}/{inner}" if shown else inner, info


def _fixed_parts(pattern: str) -> list[str]:
    parts = PurePosixPath(pattern).parts
    return list(parts[: next(i for i, part in enumerate(parts) if _WILD.search(part))])


def _glob_matches(name: str, pattern: str) -> bool:
    """Return whether a name matches part by part, so that * stays within one folder; ** stands for any folders."""
    return _parts_match(tuple(name.split("/")), tuple(pattern.removeprefix("./").split("/")))


def _parts_match(name: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "**":
        return _parts_match(name, pattern[1:]) or bool(
            name and not name[0].startswith((".", "_")) and _parts_match(name[1:], pattern)
        )
    # As in a shell, a wildcard at the start does not stand for a dot.
    hidden = name and name[0].startswith(".") and not pattern[0].startswith(".")
    return bool(name and not hidden and fnmatch.fnmatchcase(name[0], pattern[0])) and _parts_match(
        name[1:], pattern[1:]
    )


def _is_log(inner: str, wanted: LogFormat | None) -> bool:
    parts = PurePosixPath(inner.lstrip("/")).parts
    if any(part.startswith((".", "_")) for part in parts):
        return False
    path = PurePosixPath(parts[-1].lower())
    suffix = PurePosixPath(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix
    return wanted is not None or suffix in LOG_SUFFIXES


def _log_file(info: pafs.FileInfo, name: str, wanted: LogFormat | None) -> LogFile | str:
    known, compression, tabs = find_format(name)
    kind = wanted or known
    if kind is None or (kind == "parquet" and compression):
        shown = f"{', '.join(FORMATS)}, text also with .gz or .zst after it"
        return f"--input {name}: not a log; a log's name ends in {shown}"
    return LogFile(name=name, num_bytes=info.size or 0, format=kind, compression=compression, tabs=tabs)


def _nothing_found(given: str) -> str:
    if _WILD.search(given):
        return f"--input {given}: no file matches"
    filesystem, path = open_filesystem(given)
    if filesystem.get_file_info(path).type == pafs.FileType.Directory:
        return f"--input {given}: no log in this directory; a log's name ends in {', '.join(LOG_SUFFIXES)}"
    parent = str(PurePosixPath(path).parent)
    known = filesystem.get_file_info(parent).type == pafs.FileType.Directory
    siblings = [i.base_name for i in filesystem.get_file_info(pafs.FileSelector(parent))] if known else []
    return f"--input {given}: no such file.{did_you_mean(PurePosixPath(path).name, siblings)}"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
