"""The exceptions of gzkern.

The message is one sentence a user can act on: what, where, expected, got, how to fix. The command line
prints it after ``gzkern: `` and exits with the class's ``exit_code``.
"""


class GzkernError(Exception):
    """Work that could not be completed (exit code 1); the class of all errors that this package raises on purpose.

    >>> import gzkern
    >>> issubclass(gzkern.InputError, gzkern.GzkernError)
    True
    """

    exit_code = 1


class InputError(GzkernError):
    """Input that the user can mend: a path, a file, an option, a configuration (exit code 2).

    >>> import gzkern
    >>> gzkern.load("nowhere")
    Traceback (most recent call last):
    ...
    gzkern.errors.InputError: nowhere: not a run (no config.toml in it); give a directory that gzkern train wrote
    """

    exit_code = 2


class OutOfMemory(InputError):
    """Something does not fit into the memory of a device; the message has the sizes."""


class ImageError(InputError):
    """One image file that cannot be used; the message is the reason, without the path."""
