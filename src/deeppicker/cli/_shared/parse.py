"""Read a command line, and the settings file that it names, into a verb's `Options`."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, get_type_hints

from deeppicker.cli._shared.options import Option, module_of, options_of, suggestion
from deeppicker.cli._shared.settings import read_settings
from deeppicker.errors import InputError


def parse(verb: str, words: Sequence[str]) -> Any:
    """Return the `Options` of a verb: what the command line gives, else the settings file, else the default.

    Raises
    ------
    InputError
        If an option or a value is wrong or missing; in one line.
    """
    options = options_of(verb)
    try:
        given = _given(options, words)
    except InputError as error:
        raise InputError(f"{error}; see deeppicker {verb} --help") from error
    path = given.get("settings")
    filed = read_settings(path, verb) if path is not None else {}
    missing = [option.label for option in options if option.required and option.name not in {*filed, *given}]
    if missing:
        raise InputError(f"{' and '.join(missing)} must be given; see deeppicker {verb} --help")
    try:
        return _build(module_of(verb).Options, options, {**filed, **given})
    except InputError as error:
        blamed = [option.flag for option in options if option.name in filed and option.name not in given]
        if any(f"{flag} " in f"{error} " for flag in blamed):
            raise InputError(f"{path}: {error}") from error
        raise


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message.removeprefix("argument "))


def _given(options: Sequence[Option], words: Sequence[str]) -> dict[str, Any]:
    """Return the values on the command line, by name."""
    parser = _Parser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for option in options:
        if option.positional:
            parser.add_argument(option.name, nargs=option.count, metavar=option.metavar).required = False
        elif option.switch:
            parser.add_argument(option.flag, dest=option.name, action="store_const", const=True)
            parser.add_argument(f"--no-{option.flag[2:]}", dest=option.name, action="store_const", const=False)
        else:
            parser.add_argument(option.flag, dest=option.name, nargs=option.count)
    found, unknown = parser.parse_known_args([_with_dashes(word) for word in words])
    if unknown:
        raise InputError(_unexpected(unknown[0], options))
    by_name = {option.name: option for option in options}
    return {
        name: words if by_name[name].switch else by_name[name].value(words, by_name[name].label)
        for name, words in vars(found).items()
    }


def _with_dashes(word: str) -> str:
    """Return an option as ``--pixel-size`` that was written ``--pixel_size``, as RELION does."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else word


def _unexpected(word: str, options: Sequence[Option]) -> str:
    if not word.startswith("-"):
        return f"{word} is one word too many"
    flag = word.partition("=")[0]
    return f"there is no option {flag}{suggestion(flag, [option.flag for option in options if not option.positional])}"


def _build(kind: type, options: Iterable[Option], values: Mapping[str, Any], depth: int = 0) -> Any:
    """Return a dataclass, and the configs in it, with the values given."""
    hints = get_type_hints(kind)
    fields: dict[str, Any] = {}
    for name, items in itertools.groupby(options, key=lambda option: option.path[depth]):
        members = list(items)
        if len(members[0].path) > depth + 1:
            fields[name] = _build(hints[name], members, values, depth + 1)
        elif name in values:
            fields[name] = values[name]
        elif members[0].count == "*" and members[0].positional:
            fields[name] = ()
    return kind(**fields)
