"""Scripts that complete commands and options in a shell, without starting Python at each key."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from deeppicker.cli._shared.options import Option, options_of

_COMMON = {"--help": "Show the everyday options.", "--help-all": "Show all options."}


def completion_script(shell: str, verbs: Mapping[str, str]) -> str:
    """Return the script for ``bash``, ``zsh`` or ``fish``, given what each verb does."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](verbs)


def _bash(verbs: Mapping[str, str]) -> str:
    flags, values = [], []
    for verb in verbs:
        options = options_of(verb)
        names = [option.offered for option in options if not option.positional]
        flags.append(f"            {verb}) words={shlex.quote(' '.join([*names, *_COMMON]))} ;;")
        for option in options:
            if option.choices and not option.switch:
                before = verb if option.positional else option.flag
                values.append(f'            "{verb} {before}") words="{" ".join(option.choices)}" ;;')
    return "\n".join(
        [
            "# In ~/.bashrc: source <(deeppicker completion bash)",
            "_deeppicker() {",
            '    local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words=""',
            "    if ((COMP_CWORD == 1)); then",
            f'        words="{" ".join(verbs)}"',
            '    elif [[ "$current" == -* ]]; then',
            '        case "${COMP_WORDS[1]}" in',
            *flags,
            "        esac",
            "    else",
            '        case "${COMP_WORDS[1]} $before" in',
            *values,
            "        esac",
            "    fi",
            '    COMPREPLY=($(compgen -W "$words" -- "$current"))',
            "}",
            "complete -o bashdefault -o default -F _deeppicker deeppicker",
            "",
        ]
    )


def _zsh(verbs: Mapping[str, str]) -> str:
    cases = []
    for verb in verbs:
        cases.append(f"        {verb}) _arguments -s \\")
        cases += [f"            {shlex.quote(_zsh_option(option))} \\" for option in options_of(verb)]
        cases += [f"            {shlex.quote(f'{flag}[{text}]')} \\" for flag, text in _COMMON.items()]
        cases.append("            && return ;;")
    return "\n".join(
        [
            "#compdef deeppicker",
            "# In ~/.zshrc, after compinit: source <(deeppicker completion zsh)",
            "_deeppicker() {",
            "    if ((CURRENT == 2)); then",
            f"        local -a verbs=({' '.join(shlex.quote(f'{verb}:{text}') for verb, text in verbs.items())})",
            "        _describe command verbs",
            "        return",
            "    fi",
            "    shift words",
            "    ((CURRENT--))",
            '    case "$words[1]" in',
            *cases,
            "    esac",
            "}",
            "compdef _deeppicker deeppicker",
            "",
        ]
    )


def _zsh_option(option: Option) -> str:
    action = f"({' '.join(option.choices)})" if option.choices else "_files"
    if option.positional:
        return f"*:{option.metavar}:{action}" if option.count == "*" else f":{option.metavar}:{action}"
    text = re.sub(r"([\[\]:\\])", r"\\\1", option.brief)
    if option.switch:
        return f"{option.offered}[{text}]"
    values = option.count if isinstance(option.count, int) else 1
    return f"{option.flag}[{text}]" + values * f":{option.metavar}:{action}"


def _fish(verbs: Mapping[str, str]) -> str:
    lines = ["# deeppicker completion fish > ~/.config/fish/completions/deeppicker.fish"]
    for verb, summary in verbs.items():
        lines.append(f"complete -c deeppicker -n __fish_use_subcommand -f -a {verb} -d {_fish_quoted(summary)}")
    for verb in verbs:
        start = f"complete -c deeppicker -n '__fish_seen_subcommand_from {verb}'"
        for option in options_of(verb):
            values = f"-x -a {_fish_quoted(' '.join(option.choices))}" if option.choices else "-r -F"
            if option.positional:
                lines += [f"{start} {values.replace('-x', '-f')}"] if option.choices else []
                continue
            needs = "" if option.switch else f" {values}"
            lines.append(f"{start} -l {option.offered[2:]}{needs} -d {_fish_quoted(option.brief)}")
        lines += [f"{start} -l {flag[2:]} -d {_fish_quoted(text)}" for flag, text in _COMMON.items()]
    return "\n".join([*lines, ""])


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
