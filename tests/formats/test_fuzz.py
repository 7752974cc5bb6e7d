"""A few of the broken files of `fuzz_formats`; the whole hundred thousand is run by hand."""

from __future__ import annotations

from pathlib import Path

from fuzz_formats import run, seeds


def test_broken_files_of_every_format_give_a_result_or_one_line(tmp_path: Path) -> None:
    counts, refused, faults = run(1200, 20_26, tmp_path)
    assert faults == []
    assert set(counts) == set(seeds())
    assert all(refused[name] > 0 for name in counts)
