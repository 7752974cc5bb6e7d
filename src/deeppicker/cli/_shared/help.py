"""The help of a verb: the everyday options on one screen, or all of them in groups."""

from __future__ import annotations

import argparse
import itertools

from deeppicker.cli._shared.options import Option, everyday, module_of, options_of


def help_text(verb: str, *, complete: bool) -> str:
    """Return the help with the everyday options, a sentence for each, or with all options and their whole texts."""
    options = options_of(verb)
    shown = options if complete else everyday(verb)
    short = len(shown) < len(options)
    inputs = [option.metavar for option in options if option.positional]
    parser = argparse.ArgumentParser(
        prog=f"deeppicker {verb}",
        usage=" ".join(["%(prog)s", *inputs, "[OPTIONS]"]),
        description=module_of(verb).__doc__,
        epilog=_more(verb, len(options)) if short else None,
        add_help=False,
    )
    for about, members in itertools.groupby(shown, key=lambda option: "" if short else option.group):
        title, _, more = about.rstrip(".").partition(". ")
        group = parser.add_argument_group(title or "options", more or None)
        for option in members:
            _add(group, option, option.brief if short else option.help)
    return parser.format_help()


def _more(verb: str, number: int) -> str:
    return f"deeppicker {verb} --help-all shows all {number} options; deeppicker settings {verb} writes them to a file."


def _add(group: argparse._ArgumentGroup, option: Option, text: str) -> None:
    text = (text + _default(option)).replace("%", "%%")
    if option.positional:
        group.add_argument(option.name, metavar=option.metavar, help=text)
    elif option.switch:
        group.add_argument(option.offered, action="store_true", help=text)
    else:
        group.add_argument(option.flag, metavar=option.metavar, help=text)


def _default(option: Option) -> str:
    if option.required:
        return " (required)"
    if option.switch or option.default in (None, ()) or option.count == "*":
        return ""
    values = option.default if isinstance(option.default, tuple) else (option.default,)
    return f" (default: {' '.join(map(str, values))})"
