"""Command lines: a repeated flag loses none of its values."""

from dataclasses import dataclass, field
from typing import Annotated

import pytest
import tyro

from behavegpt.arguments import merge_repeats, parse


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
