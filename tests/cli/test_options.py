"""Help, and what is said about a wrong command line."""

import pytest

from deeppicker.cli._shared.help import help_text
from deeppicker.cli._shared.options import everyday, module_of, options_of
from deeppicker.cli._shared.parse import parse
from deeppicker.cli.main import VERBS, main

LONG = ("pick", "watch", "train", "adapt")  # verbs with more options than a screen holds


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")


# --- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", LONG)
def test_the_help_of_a_large_command_fits_on_a_screen_and_says_where_the_rest_is(verb: str):
    lines = help_text(verb, complete=False).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert "--help-all" in lines[-1]
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
