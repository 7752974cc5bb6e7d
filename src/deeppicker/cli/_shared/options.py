"""The options of a verb: one list of them, read off its dataclass, serves parsing, help, settings and completion."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, get_args, get_origin

from tyro.conf import Positional
from tyro.constructors import (
    MISSING_NONPROP,
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructTypeInfo,
)

from deeppicker.errors import InputError

REQUIRED = MISSING_NONPROP
"""Default of an option that must be given."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of a verb: a field of its `Options`, or of a config in it."""

    path: tuple[str, ...]
    """Names of the fields that lead to it; the last is its own."""

    kind: Any
    """Its type, with annotations."""

    default: Any
    help: str
    group: str
    """What its config is about; empty for a field of `Options` itself."""

    @property
    def brief(self) -> str:
        """The first sentence of its help."""
        return self.help.split(". ")[0].rstrip(".") + "."

    @property
    def name(self) -> str:
        """Its name in Python and in settings files."""
        return self.path[-1]

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def offered(self) -> str:
        """Its name as the help offers it: a switch that is on by default is there to be turned off."""
        return f"--no-{self.flag[2:]}" if self.switch and self.default is True else self.flag

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.metavar if self.positional else self.flag

    @property
    def switch(self) -> bool:
        """Whether it takes no value."""
        return self._plain is bool

    @property
    def positional(self) -> bool:
        """Whether it is given by its place, without its name."""
        return Positional in getattr(self.kind, "__metadata__", ())

    @property
    def required(self) -> bool:
        """Whether it must be given; a list of inputs may be empty, which the verb itself explains best."""
        return self.default is REQUIRED and self.count != "*"

    @property
    def count(self) -> int | str:
        """How many words its value takes; ``*`` for any number."""
        nargs = 0 if self.switch else self._spec.nargs
        assert not isinstance(nargs, tuple)
        return nargs

    @property
    def choices(self) -> tuple[str, ...] | None:
        """The only values that it takes, if they are few."""
        return ("true", "false") if self.switch else self._spec.choices

    @property
    def metavar(self) -> str:
        """What stands for its value in the help."""
        given = next((item.metavar for item in _notes(self.kind) if item.metavar), None)
        one = self._spec.metavar.removeprefix("{None}|").removesuffix("|INT")
        return given or (one.strip("[").split()[0] + "..." if self.count == "*" else one)

    @property
    def wanted(self) -> str:
        """What its value must be, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        parts = {self._plain, *get_args(self._plain)}
        noun = "number" if float in parts else "whole number" if int in parts else "text"
        if get_origin(self._plain) is tuple:
            return f"{self.count} {noun}s" if isinstance(self.count, int) else f"a list of {noun}s"
        return noun if noun == "text" else f"a {noun}"

    def value(self, words: Sequence[str], label: str) -> Any:
        """Return the value that words stand for.

        Raises
        ------
        InputError
            If they stand for none.
        """
        try:
            if self._spec.choices and not set(words) <= set(self._spec.choices):
                raise ValueError
            if self.count not in ("*", len(words)):
                raise ValueError
            return self._spec.instance_from_str(list(words))
        except ValueError as error:
            raise InputError(f"{label} {' '.join(words)} is not {self.wanted}") from error

    @property
    def _plain(self) -> Any:
        return get_args(self.kind)[0] if get_origin(self.kind) is Annotated else self.kind

    @cached_property
    def _spec(self) -> PrimitiveConstructorSpec[Any]:
        spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(self.kind, set()))
        assert isinstance(spec, PrimitiveConstructorSpec)
        return spec


def options_of(verb: str) -> list[Option]:
    """Return all options of a verb, those of each config together."""
    return list(_fields(module_of(verb).Options, (), ""))


def everyday(verb: str) -> list[Option]:
    """Return the options that the short help shows: those that the verb's module names in ``EVERYDAY``, or all."""
    options = options_of(verb)
    names = getattr(module_of(verb), "EVERYDAY", None)
    return options if names is None else [option for option in options if option.name in names]


def module_of(verb: str) -> Any:
    """Return the module of a verb, with its ``Options`` and ``run``."""
    return importlib.import_module(f"deeppicker.cli.{verb}")


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return a hint at the known word that is most like a misspelt one; empty if there is none."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _fields(kind: type, path: tuple[str, ...], group: str) -> Iterator[Option]:
    """Yield the fields of a dataclass: first its own, then those of the configs in it."""
    spec = ConstructorRegistry.get_struct_spec(StructTypeInfo.make(kind, REQUIRED, in_union_context=False))
    assert isinstance(spec, StructConstructorSpec)
    for field in spec.fields:
        if not dataclasses.is_dataclass(field.type):
            written = field.helptext() if callable(field.helptext) else field.helptext
            text = next((item.help for item in _notes(field.type) if item.help), written) or ""
            text = " ".join(text.replace("``", "`").split())
            yield Option(path=(*path, field.name), kind=field.type, default=field.default, help=text, group=group)
    for field in spec.fields:
        if dataclasses.is_dataclass(field.type):
            about = " ".join((inspect.getdoc(field.type) or "").replace("``", "`").split())
            yield from _fields(field.type, (*path, field.name), about)


def _notes(kind: Any) -> list[Any]:
    """Return what `tyro.conf.arg` has noted on a type."""
    return [item for item in getattr(kind, "__metadata__", ()) if hasattr(item, "metavar")]
