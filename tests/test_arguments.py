"""Command lines: a repeated flag loses none of its values, and a misspelt choice is answered with the nearest one."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
import tyro

from behavegpt.arguments import merge_repeats, parse, parse_parts
from behavegpt.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Inner:
    hold_out: tuple[str, ...] = ()
    split: tuple[float, float] = (0.5, 0.5)


@dataclass(frozen=True, kw_only=True)
class Example:
    input: tuple[str, ...]
    out: str
    plan: bool = False
    inner: Annotated[Inner, tyro.conf.arg(name="")] = field(default_factory=Inner)


@dataclass(frozen=True, kw_only=True)
class WithPreset:
    preset: tyro.conf.Positional[str] = "demo"
    seeds: tuple[int, ...] = (0,)


def test_a_repeated_list_flag_appends() -> None:
    args = parse(Example, argv=["--input", "a", "--out", "x", "--input=b", "--plan", "--input", "c", "d"])
    assert (args.input, args.out, args.plan) == (("a", "b", "c", "d"), "x", True)
    args = parse(Example, argv=["--input=a=1", "--out=x", "--hold_out", "p", "--hold-out", "q", "--input", "-1"])
    assert (args.input, args.out, args.inner.hold_out) == (("a=1", "-1"), "x", ("p", "q"))


@pytest.mark.parametrize("flags", [("--out", "b"), ("--split", "1", "0", "--split=1", "0")])
def test_a_repeated_flag_of_one_value_exits_2(flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(Example, argv=["--input", "a", "--out", "a", *flags])
    assert stopped.value.code == 2
    capsys.readouterr()


def test_positionals_come_before_or_after_the_flags() -> None:
    args = parse(WithPreset, argv=["nyc", "--seeds", "1", "--seeds", "2"])
    assert (args.preset, args.seeds) == ("nyc", (1, 2))


def test_what_is_not_repeated_stays_as_it_is() -> None:
    words = ["x", "--delimiter=--", "-1", "--in_put", "a", "--", "--out", "b", "--out", "c"]
    assert merge_repeats(words) == words
    assert merge_repeats([]) == []


Kind = Literal["erm", "cvar", "kl"]


@dataclass(frozen=True)
class Choices:
    one: Kind = "erm"
    some: tuple[Kind, ...] = ("erm",)
    maybe: tuple[Kind, ...] | None = None
    other: Literal["none", "unigram"] | None = None


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["--one", "cvr"], "--one has 'cvr'; allowed: erm, cvar, kl. Did you mean 'cvar'?"),
        (["--one=cvr"], "--one has 'cvr'; allowed: erm, cvar, kl. Did you mean 'cvar'?"),
        (["--one", "kl", "--some", "kl", "cvr"], "--some has 'cvr'; allowed: erm, cvar, kl. Did you mean 'cvar'?"),
        (["--maybe", "erm", "--maybe", "lk"], "--maybe has 'lk'; allowed: erm, cvar, kl. Did you mean 'kl'?"),
        (
            ["--some", "kl", "--one", "cvr", "--maybe", "cvr"],
            "--one or --maybe has 'cvr'; allowed: erm, cvar, kl. Did you mean 'cvar'?",
        ),
        (["--other", "zzz"], "--other has 'zzz'; allowed: none, unigram."),
    ],
)
def test_a_word_that_is_no_choice_is_named_with_what_is_allowed(argv, problem):
    with pytest.raises(InputError) as refused:
        parse(Choices, argv=argv)
    assert refused.value.problems == (problem,)
    with pytest.raises(InputError) as refused:
        parse_parts({"a": Choices, "b": Example}, argv=["a", *argv])
    assert refused.value.problems == (problem,)


def test_a_wrong_word_without_a_flag_is_named_too():
    @dataclass(frozen=True)
    class Placed:
        kind: tyro.conf.Positional[Kind]
        width: int = 1

    with pytest.raises(InputError, match=r"the command line has 'cvr'; allowed: erm, cvar, kl\. Did you mean 'cvar'\?"):
        parse(Placed, argv=["cvr", "--width", "3"])


def test_choices_are_read_as_they_stand():
    assert parse(Choices, argv=[]) == Choices()
    argv = ["--one", "kl", "--some", "--maybe", "cvar", "erm", "--other", "none"]
    assert parse(Choices, argv=argv) == Choices("kl", (), ("cvar", "erm"), "none")
    assert parse(Choices, argv=["--maybe", "None", "--other", "None"]) == Choices()


def test_a_choice_named_none_where_there_is_no_none_is_refused():
    with pytest.raises(SystemExit) as left:
        parse(Choices, argv=["--one", "None"])
    assert left.value.code == 2
