"""The child processes of a process, as /proc has them."""

import os
from pathlib import Path


def children(of=None):
    """List the processes, running or waiting to be waited for, whose parent is a process, by default this one.

    Each process is asked for its parent: the list of children that /proc has for each thread vanishes with the thread,
    also between its listing and its reading.
    """
    parent = of or os.getpid()
    return {int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _parent(folder) == parent}


def _parent(folder):
    """The parent of a process, from its folder in /proc; None where the process has ended meanwhile."""
    try:
        status = (folder / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(status.rpartition(")")[2].split()[1])  # behind the name, which may hold anything
