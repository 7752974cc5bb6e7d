"""All options of a verb as a TOML file, with their defaults, units and meanings as comments."""

from __future__ import annotations

import itertools
import json
import os
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deeppicker.cli._shared.options import REQUIRED, Option, options_of, suggestion
from deeppicker.errors import InputError
from deeppicker.formats.room import refuse_large_text, refuse_special

_WIDTH = 100
_PLACES = {"text": '"..."', "a list of texts": '["..."]'}


def settings_text(verb: str) -> str:
    """Return a settings file with the default of each option; those that have none are commented out."""
    intro = (
        f"Settings of `deeppicker {verb}`, for `deeppicker {verb} --settings FILE`. "
        "Options on the command line take precedence."
    )
    return "\n".join([*_comment(intro), *_sections(verb)]) + "\n"


def _sections(verb: str) -> Iterator[str]:
    for group, options in itertools.groupby(_settable(verb), key=lambda option: option.group):
        if group:
            yield from ("", "", *_comment(f"--- {group}"))
        for option in options:
            yield ""
            yield from _comment(option.help)
            yield _line(option)


def _line(option: Option) -> str:
    if option.default is REQUIRED or option.default is None:
        return f"#{option.name} = {_PLACES.get(option.wanted, f'<{option.wanted}>')}"
    return f"{option.name} = {json.dumps(option.default, ensure_ascii=False, default=str)}"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH)]


def read_settings(path: Path, verb: str) -> dict[str, Any]:
    """Return the values in a settings file, by name.

    Raises
    ------
    InputError
        If the file cannot be read, or holds a key that is not a setting of the verb.
    """
    if os.path.exists(path):  # noqa: PTH110 - Path.exists raises for names too long
        refuse_large_text(path, refuse_special(path).st_size)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}; write it with deeppicker settings {verb}"
        ) from error
    except (ValueError, RecursionError) as error:  # neither UTF-8 nor TOML
        raise InputError(f"{path} is not a TOML file: {error}; write one with deeppicker settings {verb}") from error
    options = {option.name: option for option in _settable(verb)}
    values = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in options:
            hint = suggestion(name, options)
            raise InputError(f"{path}: {key} is not a setting of {verb}{hint}; deeppicker settings {verb} lists all")
        values[name] = _value(options[name], value, f"{path}: {key} =")
    return values


def _value(option: Option, value: object, label: str) -> Any:
    if option.switch or isinstance(value, bool | dict):
        if option.switch and isinstance(value, bool):
            return value
        raise InputError(f"{label} {json.dumps(value, default=str)} is not {option.wanted}")
    items = value if isinstance(value, list) else [value]
    return option.value([str(item) for item in items], label)


def _settable(verb: str) -> list[Option]:
    return [option for option in options_of(verb) if option.name != "settings"]
