"""A few random sequences of what happens to run folders; `make soak` plays thousands."""

from machine import RunFolderMachine, play


def test_random_sequences_leave_no_stale_mixed_or_lost_picks():
    assert issubclass(RunFolderMachine, object)
    play(sequences=20, steps=10, number=20_26)
