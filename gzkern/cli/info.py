"""The command that describes the machine, or the memory of a training step."""

from __future__ import annotations

import argparse

from ..config import PRECISIONS
from ..errors import InputError
from .command import DONE, Commands, add_command


def add_parser(commands: Commands) -> None:
    """Add ``gzkern info``."""
    parser = add_command(
        commands,
        "info",
        execute,
        "Say what this machine has: devices, versions, folders.",
        "For a device that is not here, what is missing and how to get it.",
    )
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    parser.add_argument(
        "--memory", action="store_true", help="say instead what a training step keeps in a device's memory, and where"
    )
    parser.add_argument("--config", metavar="NAME|FILE", help="with --memory: of this network (default: paper)")
    parser.add_argument("--batch", type=int, metavar="B", help="with --memory: images (default: the network's)")
    parser.add_argument(
        "--precision", choices=PRECISIONS, help="with --memory: of the products (default: the network's)"
    )


def execute(options: argparse.Namespace) -> int:
    """Print the description, as lines to read or as JSON."""
    import json

    from ..info import describe
    from .info_text import machine_text

    if options.memory:
        return _memory(options)
    for name in ("config", "batch", "precision"):
        if getattr(options, name) is not None:
            raise InputError(f"--{name}: goes with --memory; add that, or leave it out")
    info = describe()
    print(json.dumps(info, indent=1) if options.json else machine_text(info))
    return DONE


def _memory(options: argparse.Namespace) -> int:
    import json

    from ..config import load_config
    from ..info import describe_memory
    from .info_text import memory_text

    overrides = [f"train.precision={options.precision}"] if options.precision else []
    memory = describe_memory(load_config(options.config or "paper", overrides), options.batch)
    print(json.dumps(memory, indent=1) if options.json else memory_text(memory))
    return DONE
