"""Read the flags of a job so that none is dropped: a flag that is given several times counts with all its values.

In: the class of the arguments, and the command line. Out: an object of it. tyro alone would keep the last `--input` and
forget the others without a word.
"""

import re
import sys
from collections.abc import Sequence
from typing import TypeVar

import tyro

Args = TypeVar("Args")
_FLAG = re.compile(r"--[A-Za-z]")


def parse(kind: type[Args], description: str | None = None, argv: Sequence[str] | None = None) -> Args:
    """Return the arguments of a job; a wrong command line exits with code 2.

    Args:
        kind: The class of the arguments.
        description: As --help shows it; default the docstring of the class.
        argv: The command line after the name of the job; default this process's.
    """
    return tyro.cli(kind, description=description, args=merge_repeats(argv))


def merge_repeats(argv: Sequence[str] | None = None) -> list[str]:
    """Return a command line on which every flag stands once: where it stood first, before the values of all its uses.

    A flag that takes one value then has several, which tyro refuses.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    end = words.index("--") if "--" in words else len(words)
    uses: list[list[str]] = [[]]
    for word in words[:end]:
        if _FLAG.match(word):
            uses.append([])
        uses[-1].append(word)
    first, *flags = uses
    named: dict[str, list[list[str]]] = {}
    for use in flags:
        named.setdefault(use[0].partition("=")[0].replace("_", "-"), []).append(use)
    merged = (uses[0] if len(uses) == 1 else _joined(name, uses) for name, uses in named.items())
    return [*first, *(word for use in merged for word in use), *words[end:]]


def _joined(name: str, uses: list[list[str]]) -> list[str]:
    values = ([*flag.split("=", 1)[1:], *rest] for flag, *rest in uses)
    return [name, *(value for part in values for value in part)]
