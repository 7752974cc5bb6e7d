"""Errors that a user can act on. Each message is one line: what, the value received, and the remedy."""


class DeepPickerError(Exception):
    """Base of every error that bad input can cause; the command line prints its message and exits with 2."""


class FormatError(DeepPickerError):
    """A file cannot be read as what it claims to be."""


class InputError(DeepPickerError):
    """A value, an option or a combination of inputs cannot be used."""


class UnreadableError(InputError):
    """A file that the operating system does not let us read, at least now."""


class OutputError(DeepPickerError):
    """A result cannot be written."""


class OvertakenError(DeepPickerError):
    """Another command has taken over the output, so nothing more may be written."""


class TransientError(DeepPickerError):
    """Something that may well succeed when it is tried again: a hung file system, a worker that was lost."""


class SpentWorkerError(TransientError):
    """A worker process can do nothing any more; another one may succeed."""


def out_of_range(name: str, value: float | int, choose: str) -> InputError:
    """Return the error for the value of an option that cannot be used."""
    return InputError(f"--{name.replace('_', '-')} {value:g} is out of range; choose {choose}")
