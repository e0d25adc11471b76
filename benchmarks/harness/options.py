"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ..baselines import BASELINES

DEVICES = ("cuda", "emulated", "cpu")
_BATCHES = {"cuda": (256, 16, 64, 960, 1), "cpu": (16,), "emulated": (2,)}


def add_common(parser: argparse.ArgumentParser, baselines: str) -> None:
    """Add device, batches, baselines, samples, minutes and the file to write."""
    parser.add_argument("--device", choices=DEVICES, default="cuda", help="emulated verifies alone (default: cuda)")
    parser.add_argument("--batch", type=batches, help="images, with commas (default: those of training and prediction)")
    names = chosen("baseline", BASELINES)
    text = f"of {', '.join(BASELINES)}; '' for none (default: {baselines})"
    parser.add_argument("--baseline", type=names, default=names(baselines), help=text)
    parser.add_argument(
        "--samples", type=samples, default=100, help="of every contender; 0 verifies alone (default: 100)"
    )
    parser.add_argument("--minutes", type=minutes, help="begin nothing new after so many; the rest is listed")
    parser.add_argument("--json", metavar="FILE", type=file, help="write the rows")


def batches_of(options: argparse.Namespace) -> Sequence[int]:
    """Return the batches asked for, or a device's own, most telling first."""
    return options.batch or _BATCHES[options.device]


def chosen(what: str, names: Sequence[str] | dict, everything: bool = False) -> Callable[[str], list[str]]:
    """Return the type of an option that takes some of ``names``; with ``everything`` also "all"."""

    def parse(text: str) -> list[str]:
        if everything and text == "all":
            return list(names)
        found = [name for name in text.split(",") if name]
        unknown = [name for name in found if name not in names]
        if unknown or (everything and not found):
            also = "all or some of " if everything else ""
            raise argparse.ArgumentTypeError(f"{what} {', '.join(unknown) or text!r}: expected {also}{','.join(names)}")
        return list(dict.fromkeys(found))

    return parse


def batches(text: str) -> list[int]:
    """Parse numbers of images."""
    return list(dict.fromkeys(positive(part) for part in text.split(",")))


def positive(text: str) -> int:
    """Parse a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1")
    return int(text)


def samples(text: str) -> int:
    """Parse a number of samples; 0 times nothing."""
    return 0 if text == "0" else positive(text)


def minutes(text: str) -> float:
    """Parse a number of minutes above 0."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of minutes, more than 0")
    return found


def file(text: str) -> str:
    """Parse the name of a file to write; its folder is made, and can be written."""
    path = Path(text)
    if path.exists() and not path.is_file():
        kind = "a directory" if path.is_dir() else "no regular file"
        raise argparse.ArgumentTypeError(f"{text}: is {kind}, expected the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: cannot be written ({error.strerror})") from None
    return text


def picture(text: str) -> str:
    """Parse the name of a PNG to write; refuse it without matplotlib."""
    if not text.endswith(".png"):
        raise argparse.ArgumentTypeError(f"{text}: expected a name that ends in .png")
    if importlib.util.find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError(f"{text}: drawing needs matplotlib; pip install matplotlib")
    return file(text)
