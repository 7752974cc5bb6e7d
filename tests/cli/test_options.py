"""Help, settings files, completion, and what is said about a wrong command line."""

import dataclasses
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from deeppicker.cli._shared.help import help_text
from deeppicker.cli._shared.options import everyday, module_of, options_of
from deeppicker.cli._shared.parse import parse
from deeppicker.cli._shared.settings import settings_text
from deeppicker.cli.main import VERBS, main
from deeppicker.errors import InputError

LONG = ("pick", "watch", "train", "adapt")  # verbs with more options than a screen holds
NEEDED = {
    "pick": ("a.mrc", "--output", "out"),
    "watch": ("frames", "--output", "out"),
    "relion": ("--in_mics", "a.star", "--o", "External/job001/"),
    "train": ("a.star", "--output", "m.safetensors"),
    "adapt": ("--picks", "picks", "--output", "m.safetensors"),
}
"""Verbs that read a settings file, and what they need."""


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")


# --- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", LONG)
def test_the_help_of_a_large_command_fits_on_a_screen_and_says_where_the_rest_is(verb: str):
    lines = help_text(verb, complete=False).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert "--help-all" in lines[-2]
    assert set(module_of(verb).EVERYDAY) == {option.name for option in everyday(verb)}
    assert len(everyday(verb)) <= 14
    assert all(option.brief.split()[0] in help_text(verb, complete=False) for option in everyday(verb))


@pytest.mark.parametrize("verb", VERBS)
def test_the_whole_help_shows_each_option_with_its_text_and_its_default(verb: str):
    shown = " ".join(help_text(verb, complete=True).split())
    for option in options_of(verb):
        assert (option.metavar if option.positional else option.offered) in shown
        assert option.help
        if isinstance(option.default, int | float | str) and not option.switch:
            assert f"(default: {option.default})" in shown


@pytest.mark.parametrize("word", ["-h", "--help", "--help-all"])
def test_help_is_shown_whatever_else_is_wrong(word: str, capsys: pytest.CaptureFixture[str]):
    assert main(["pick", "--nonsense", word]) == 0
    shown = capsys.readouterr().out
    assert "--output" in shown
    assert ("--max-region" in shown) == (word == "--help-all")


# --- a wrong command line -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pick"], "--output must be given"),
        (["pick", "x.mrc"], "--output must be given"),
        (["pick", "x.mrc", "--treshold", ".5"], "there is no option --treshold (did you mean --threshold?)"),
        (["pick", "x.mrc", "--treshold=.5", "--output", "o"], "no option --treshold (did you mean --threshold?)"),
        (["pick", "x.mrc", "--output", "o", "--thresh", ".5"], "there is no option --thresh"),
        (["pick", "x.mrc", "--pixel-size", "abc", "--output", "o"], "--pixel-size abc is not a number"),
        (["pick", "x.mrc", "--output", "o", "--workers", "2.5"], "--workers 2.5 is not a whole number"),
        (["pick", "x.mrc", "--output"], "--output: expected 1 argument"),
        (["pick", "x.mrc", "--output", "o", "--search", "3"], "--search: expected 2 arguments"),
        (["pick", "x.mrc", "--output", "o", "--quiet", "y.mrc"], "y.mrc is one word too many"),
        (["train", "x.star", "--network", "deep"], "--network deep is not one of dense, paper"),
        (["evaluate"], "--picks and --reference must be given"),
        (["convert", "a.star"], "OUTPUT must be given"),
        (["completion", "tcsh"], "SHELL tcsh is not one of bash, zsh, fish"),
    ],
)
def test_a_wrong_command_line_ends_with_one_true_line_and_status_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert main(words) == 2
    text = capsys.readouterr().err
    assert text.startswith("deeppicker: ")
    assert text.count("\n") == 1
    assert message in text
    assert text.endswith(f"; see deeppicker {words[0]} --help\n")


def test_options_may_be_written_as_relion_and_as_programs_write_them():
    plain = parse("relion", ["--in-mics", "a.star", "--o", "job", "--pixel-size", "1.5", "--invert"])
    other = parse("relion", ["--in_mics", "a.star", "--o=job", "--pixel_size=1.5", "--no-invert", "--invert"])
    assert plain == other
    assert plain.subject.pixel_size == 1.5
    assert plain.subject.invert


# --- settings files -----------------------------------------------------------------------------


@pytest.mark.parametrize("verb", NEEDED)
def test_the_settings_that_are_written_are_the_defaults(verb: str, tmp_path: Path):
    file = tmp_path / "settings.toml"
    file.write_text(settings_text(verb), encoding="utf-8")
    given = parse(verb, [*NEEDED[verb], "--settings", str(file)])
    assert given.settings == file
    assert dataclasses.replace(given, settings=None) == parse(verb, NEEDED[verb])


@pytest.mark.parametrize("verb", NEEDED)
def test_settings_hold_every_option_with_its_meaning_and_those_without_a_default_as_comments(verb: str):
    text = settings_text(verb)
    active = tomllib.loads(text)
    for option in options_of(verb):
        if option.name == "settings":
            continue
        assert (option.name in active) != (f"\n#{option.name} = " in text)
        assert option.help in " ".join(text.replace("\n# ", " ").split())


def test_any_option_can_stand_in_the_file_under_either_spelling(tmp_path: Path):
    file = tmp_path / "settings.toml"
    file.write_text(
        'input = ["a.mrc", "b.mrc"]\noutput = "out"\npixel-size = 2\ninvert = true\nsearch = [60, 90.5]\n'
        'job_setup = ["module load x"]\nlog_file = "run.log"\nmax_region = 3.5\n'
    )
    words = ["a.mrc", "b.mrc", "--output", "out", "--pixel-size", "2", "--invert", "--search", "60", "90.5"]
    words += ["--job-setup", "module load x", "--log-file", "run.log", "--max-region", "3.5"]
    given = parse("pick", ["--settings", str(file)])
    assert dataclasses.replace(given, settings=None) == parse("pick", words)


def test_the_command_line_takes_precedence_over_the_file_and_the_file_over_the_default(tmp_path: Path):
    file = tmp_path / "settings.toml"
    file.write_text("threshold = 0.4\ninvert = true\nretries = 5\n")
    options = parse("pick", [*NEEDED["pick"], "--settings", str(file), "--threshold", ".6", "--no-invert"])
    assert (options.select.threshold, options.subject.invert, options.work.retries) == (0.6, False, 5)
    assert options.work.time_limit == parse("pick", NEEDED["pick"]).work.time_limit


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("treshold = 0.5", r"treshold is not a setting of pick \(did you mean threshold\?\)"),
        ("settings = 'x'", "settings is not a setting of pick"),
        ("[select]\nthreshold = 0.5", "select is not a setting of pick"),
        ("threshold = 'high'", "threshold = high is not a number"),
        ("threshold = true", "threshold = true is not a number"),
        ("threshold = {a = 1}", r"threshold = .* is not a number"),
        ("threshold = [0.1, 0.2]", "threshold = 0.1 0.2 is not a number"),
        ("threshold = 3", "--threshold 3 is out of range; choose 0 to 1"),
        ("retries = 1.5", "retries = 1.5 is not a whole number"),
        ("search = 50", "search = 50 is not 2 numbers"),
        ("invert = 1", "invert = 1 is not one of true, false"),
        ("threshold 3", r"is not a TOML file: .*line 1.* deeppicker settings pick"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file_and_the_remedy(tmp_path: Path, content: str, message: str):
    file = tmp_path / "settings.toml"
    file.write_text(content)
    with pytest.raises(InputError, match=rf"settings\.toml.*{message}") as caught:
        parse("pick", [*NEEDED["pick"], "--settings", str(file)])
    assert "\n" not in str(caught.value)


def test_a_wrong_value_on_the_command_line_is_not_blamed_on_the_file(tmp_path: Path):
    file = tmp_path / "settings.toml"
    file.write_text("threshold = 3\n")
    assert parse("pick", [*NEEDED["pick"], "--settings", str(file), "--threshold", ".3"]).select.threshold == 0.3
    with pytest.raises(InputError, match=r"^--threshold 4 is out of range"):
        parse("pick", [*NEEDED["pick"], "--settings", str(file), "--threshold", "4"])


def test_a_missing_settings_file_says_how_to_get_one(tmp_path: Path):
    with pytest.raises(InputError, match=r"none\.toml cannot be read: No such file.*deeppicker settings pick"):
        parse("pick", [*NEEDED["pick"], "--settings", str(tmp_path / "none.toml")])


# --- completion ---------------------------------------------------------------------------------

CASES = [
    ("deeppicker pi", {"pick"}),
    ("deeppicker pick --thr", {"--threshold"}),
    ("deeppicker train --network ", {"dense", "paper"}),
    ("deeppicker settings re", {"relion"}),
]


@pytest.fixture
def script(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The script for a shell, if this computer has the shell."""
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param} on this computer")
    assert main(["completion", request.param]) == 0
    file = tmp_path / request.param
    file.write_text(capsys.readouterr().out, encoding="utf-8")
    return file


def output_of(*command: str | Path) -> str:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("script", ["bash"], indirect=True)
@pytest.mark.parametrize(("line", "offered"), CASES)
def test_bash_completes_commands_options_and_values(script: Path, line: str, offered: set[str]):
    program = (
        'source "$1"; IFS=" " read -r -a COMP_WORDS <<< "$2"; [[ "$2" == *" " ]] && COMP_WORDS+=("");'
        'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _deeppicker; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert set(output_of("bash", "-c", program, "bash", script, line).split()) == offered


@pytest.mark.parametrize("script", ["fish"], indirect=True)
@pytest.mark.parametrize(("line", "offered"), CASES)
def test_fish_completes_commands_options_and_values(script: Path, line: str, offered: set[str]):
    shown = output_of("fish", "--no-config", "-c", 'source $argv[1]; complete -C"$argv[2]"', script, line)
    assert {each.split("\t")[0] for each in shown.splitlines()} == offered


@pytest.mark.parametrize("script", ["bash", "zsh", "fish"], indirect=True)
def test_the_script_is_sound_and_knows_every_command_and_option(script: Path):
    output_of(script.name, "-n", script)
    text = script.read_text(encoding="utf-8")
    prefix = "-l " if script.name == "fish" else "--"
    for verb in VERBS:
        assert verb in text
        for option in options_of(verb):
            assert option.positional or prefix + option.offered[2:] in text
