"""The exceptions of gzkern.

The message is one sentence a user can act on: what, where, expected, got, how to fix. The command line
prints it after ``gzkern: `` and exits with the class's ``exit_code``.
"""


class GzkernError(Exception):
    """A run that could not be completed (exit code 1)."""

    exit_code = 1


class InputError(GzkernError):
    """Input that the user can mend: a path, a file, an option, a configuration (exit code 2)."""

    exit_code = 2


class OutOfMemory(InputError):
    """Something does not fit into the memory of a device; the message has the sizes."""


class ImageError(InputError):
    """One image file that cannot be used; the message is the reason, without the path."""
