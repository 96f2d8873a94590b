"""Read the flags of a job so that none is dropped: a flag that is given several times counts with all its values.

In: the class of the arguments, and the command line. Out: an object of it. tyro alone would keep the last `--input` and
forget the others without a word, and would answer a misspelt choice of a list with a list in no order.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from behavegpt.errors import InputError, did_you_mean

Args = TypeVar("Args")
_FLAG = re.compile(r"--[A-Za-z]")
_registry = ConstructorRegistry()


class _WrongChoiceError(Exception):
    """A word that is none of a flag's choices; no ValueError, which tyro would put into words of its own."""

    def __init__(self, word: str, choices: tuple[str, ...]) -> None:
        super().__init__(f"{word!r}; allowed: {', '.join(choices)}.{did_you_mean(word, choices)}")
        self.word = word


def parse(kind: type[Args], description: str | None = None, argv: Sequence[str] | None = None) -> Args:
    """Return the arguments of a job; a wrong command line exits with code 2.

    Args:
        kind: The class of the arguments.
        description: As --help shows it; default the docstring of the class.
        argv: The command line after the name of the job; default this process's.

    Raises:
        InputError: A word is none of its flag's choices.
    """
    with _choices(merge_repeats(argv)) as words:
        return tyro.cli(kind, description=description, args=words)


def parse_parts(
    parts: Mapping[str, type[Args]], description: str | None = None, argv: Sequence[str] | None = None
) -> Args:
    """Return the arguments of one of a job's parts, whose name comes first; else as `parse`."""
    with _choices(merge_repeats(argv)) as words:
        return tyro.extras.subcommand_cli_from_dict(dict(parts), description=description, args=words)


@contextmanager
def _choices(words: list[str]) -> Iterator[list[str]]:
    try:
        with _registry:
            yield words
    except _WrongChoiceError as error:
        raise InputError(f"{_flags_of(error.word, words)} has {error}") from None


def _flags_of(value: str, words: Sequence[str]) -> str:
    """Return the flags that have `value`, on its own or as --flag=value; some jobs take one without a flag.

    tyro does not say which flag it read: where two have the same word, both are named.
    """
    found: dict[str, None] = {}
    flag = "the command line"
    for word in words:
        name, _, given = word.partition("=")
        flag = name if _FLAG.match(word) else flag
        if value in (word, given):
            found[flag] = None
    return " or ".join(found)


@_registry.primitive_rule
def _choice(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Return how a flag with named choices is read."""
    if get_origin(info.type) is not Literal or not all(isinstance(one, str) for one in get_args(info.type)):
        return None
    choices = get_args(info.type)

    def read(words: list[str]) -> str:
        [word] = words
        if word in choices:
            return word
        if word == "None":
            raise ValueError(f"None is none of {', '.join(choices)}")  # tyro then tries what else the flag takes
        raise _WrongChoiceError(word, choices)

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{{{','.join(choices)}}}",
        instance_from_str=read,
        is_instance=lambda value: value in choices,
        str_from_instance=lambda value: [value],
    )


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
