"""The settings file, ``bakeoff.toml``: every option of every command can stand in it, and the command line overrules it.

A table is named like its command and a key like its parameter, as in ``[eval] models = ["bm25"]``. ``[needs]`` holds for every
command that takes these options. The rules of the gate, ``[[rule]]``, are harness.check's to read.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any, get_args

import click
from click.core import ParameterSource

from harness.embedder import Compute
from harness.errors import OptionError, nearest

DEFAULT = Path("bakeoff.toml")
_AMOUNT = click.FloatRange(min=0)


class Listed(click.types.StringParamType):
    """Words separated by commas, in a file also a list of them, as ``read`` takes them: a function of harness.experiment, by name."""

    def __init__(self, read: str) -> None:
        self.read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raises OptionError."""
        from harness import experiment

        text = ",".join(map(str, value)) if isinstance(value, list) else super().convert(value, param, ctx)
        return ",".join(map(str, getattr(experiment, self.read)(text)))


class Measures(click.types.StringParamType):
    """Measures, separated by commas."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raises OptionError."""
        from harness.metrics import Measure

        return ",".join(str(Measure.parse(word)) for word in super().convert(value, param, ctx).split(","))


with_compute = click.option(
    "--compute",
    type=click.Choice(get_args(Compute)),
    help="The precision of local models that don't say ?compute= themselves. Default: auto, the fastest of the device's own.",
)

_NEEDS = (
    click.option("--documents", metavar="N", type=click.IntRange(min=1), help="Costs for this many documents. Default: the corpus's own."),
    click.option("--queries-per-day", metavar="N", type=_AMOUNT, help="Costs for this many queries a day. Default: 0."),
    click.option("--max-p95-ms", metavar="MS", type=_AMOUNT, help="Choose only what answers 95 % of queries within MS."),
    click.option("--max-ram-gb", metavar="GB", type=_AMOUNT, help="Choose only what has an index of at most GB (1e9 bytes)."),
    click.option("--max-usd-per-month", metavar="USD", type=_AMOUNT, help="Choose only what costs at most USD a month."),
    click.option("--usd-per-gb-month", metavar="USD", type=_AMOUNT, help="What a GB of memory costs a month. Default: 0."),
    click.option("--commercial/--no-commercial", help="Choose only under licences known to allow commercial use."),
    click.option("--local/--no-local", help="Choose only models that run on one's own machine."),
    click.option(
        "--give-up",
        metavar="SHARE",
        type=click.FloatRange(min=0, max=1, max_open=True),
        help="Share of the best mean that a choice for latency, storage or money may lose. Default: 0.02.",
    ),
)


def with_needs(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for every field of ``harness.scale.Needs``, and call it with the ``needs`` they make."""

    @wraps(command)
    def call(*, wanted: Mapping[str, Any], **given: Any) -> None:
        from harness.scale import Needs

        command(**given, needs=Needs(**wanted))

    return with_wanted(call)


def with_wanted(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the same options, and call it with ``wanted``, those that the user gave: name -> value."""

    @wraps(command)
    def call(**given: Any) -> None:
        from harness.scale import Needs

        source = click.get_current_context().get_parameter_source
        values = {field.name: given.pop(field.name) for field in fields(Needs)}
        command(**given, wanted={name: value for name, value in values.items() if source(name) is not ParameterSource.DEFAULT})

    for option in reversed(_NEEDS):
        call = option(call)
    return call


@click.command("needs")
@with_needs
def _needs(needs: Any) -> None:
    """Stand in the tree of tables for ``[needs]``; never called."""


_TAKEN: tuple[tuple[type[click.ParamType[Any]], tuple[type, ...], str], ...] = (
    (Listed, (str, list), 'a string or a list, as in "256,64" or ["native", 64]'),
    (click.types.BoolParamType, (bool,), "true or false"),
    (click.types.IntParamType, (int,), "a whole number"),
    (click.types.FloatParamType, (int, float), "a number"),
    (click.ParamType, (str,), "a string"),
)
"""What a file may hold for a parameter, the first row that fits its type: click itself takes "yes" for true and 2.5 for 2."""


def read(path: Path, main: click.Group) -> dict[str, Any]:
    """Read a settings file as the ``default_map`` of ``main``: a command's name -> key -> value.

    All of it is checked, also what belongs to commands that are not run. Raises OptionError for what cannot be read, an
    unknown table or key, and a value of the wrong type or out of range.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OptionError(f"{path}: cannot be read as TOML: {error}") from error
    if "rule" in tables or any(isinstance(value, list) for value in tables.values()):
        from harness.check import read_rules

        read_rules(path)
    root = click.Group(commands={**main.commands, "needs": _needs, "rule": click.Group()})
    common = _defaults(_needs, tables.get("needs", {}), str(path), ("needs",), {})
    return _defaults(root, {**tables, "rule": {}}, str(path), (), common)


def _defaults(command: click.Command, table: Any, file: str, name: tuple[str, ...], common: Mapping[str, Any]) -> dict[str, Any]:
    """Check the table of a command, and of the commands below it; ``common`` holds what ``[needs]`` says."""
    where = f"{file}: [{'.'.join(name)}]" if name else f"{file}:"
    known: dict[str, click.Command | click.Parameter] = {param.name: param for param in command.params if param.name}
    if isinstance(command, click.Group):
        known |= {word: below for word, below in command.commands.items() if below.params or isinstance(below, click.Group)}
    if not isinstance(table, dict):
        raise OptionError(f"{where} should be a table, not {table!r}")
    for key, value in table.items():
        if key not in known:
            what = "table" if isinstance(value, dict) else "key"
            raise OptionError(f"{where} unknown {what} {key!r}; known: {', '.join(known)}{nearest(key, known)}")
    found = {key: value for key, value in common.items() if key in known}
    for key, one in known.items():
        if isinstance(one, click.Command):
            found[key] = _defaults(one, table.get(key, {}), file, (*name, key), common)
        elif key in table:
            _check(one, table[key], f"{where} {key} = {table[key]!r}")
            found[key] = table[key]
    return found


def _check(param: click.Parameter, value: Any, where: str) -> None:
    """Raise OptionError unless click's own type takes the value, and it was not written as another type."""
    _, taken, wanted = next(row for row in _TAKEN if isinstance(param.type, row[0]))
    several = param.multiple or param.nargs != 1
    if several and not isinstance(value, list):
        raise OptionError(f"{where} should be a list, as in [{value!r}]")
    if any(type(one) not in taken for one in (value if several else [value])):
        raise OptionError(f"{where} should be {'a list, each ' if several else ''}{wanted}")
    try:
        param.type_cast_value(click.Context(click.Command(None)), value)
    except click.BadParameter as error:
        raise OptionError(f"{where}: {error.message}") from None
    except OptionError as error:
        raise OptionError(f"{where}: {error}") from None
