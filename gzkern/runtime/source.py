"""The sources in ``kernels/``: found in a checkout or a wheel, with their includes put in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import GzkernError

_INCLUDE = re.compile(r'^[ \t]*#include[ \t]+"([^"]+)"[^\n]*$', re.MULTILINE)
_PRAGMA_ONCE = re.compile(r"^[ \t]*#pragma once[^\n]*$", re.MULTILINE)
_BOUNDS = r"(?:__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)\s*)?"
_KERNEL = re.compile(rf'extern\s+"C"\s+__global__\s+(?:void\s+)?{_BOUNDS}(?:void\s+)?(\w+)\s*\(')


@dataclass(frozen=True)
class Source:
    """One .cu file as a compiler takes it.

    ``name`` is what compilers print, ``kernels`` the names of its ``extern "C"`` functions. ``text`` holds the
    included files too, each once, with ``#line`` marks: a compile cache that looks at the text sees every change.
    """

    name: str
    text: str
    kernels: tuple[str, ...]


@cache
def folder() -> Path:
    """The folder of the .cu files: beside the package in a wheel, else in the checkout.

    Raises:
        GzkernError: in neither.
    """
    package = Path(__file__).parents[1]
    for place in (package / "_kernels", package.parent / "kernels"):
        if any(place.rglob("*.cu")):
            return place
    raise GzkernError(f"no CUDA sources beside {package}; install gzkern again, or work in a whole checkout")


def stems() -> list[str]:
    """Stems of all .cu files: paths in ``kernels/`` without suffix, such as ``relu`` and ``conv2d/forward``."""
    root = folder()
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.cu"))


def stems_for_every_size() -> list[str]:
    """Names of the .cu files whose kernels need no tile."""
    return [stem for stem in stems() if "#ifndef TILE" not in load(stem).text]


def load(file: str | Path, tile: tuple[int, ...] = ()) -> Source:
    """Read ``kernels/<file>.cu``, or any .cu file by its path; ``#include "…"`` is relative to the file or kernels/.

    Args:
        file: stem or path.
        tile: what the text finds as ``TILE``, separated by commas; without one, the file's own default holds.

    Raises:
        GzkernError: the file, or one that it includes, is not there.
    """
    path = file if isinstance(file, Path) else folder() / f"{file}.cu"
    text = _inlined(path, set())
    constants = f"#define TILE {', '.join(map(str, tile))}\n" if tile else ""
    return Source(_shown(path), constants + text, tuple(_KERNEL.findall(text)))


def _inlined(path: Path, seen: set[Path]) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise GzkernError(f"CUDA source {path}: {error.strerror}; install gzkern again") from None
    seen.add(path.resolve())
    text = _PRAGMA_ONCE.sub("", text)

    def replace(match: re.Match[str]) -> str:
        included = next((p for p in (path.parent / match[1], folder() / match[1]) if p.is_file()), None)
        if included is None:
            raise GzkernError(f'{_shown(path)} includes "{match[1]}", which is neither beside it nor in {folder()}')
        following = text.count("\n", 0, match.end()) + 2
        body = "" if included.resolve() in seen else _inlined(included, seen)
        return f'{body}\n#line {following} "{_shown(path)}"' if body else ""

    return f'#line 1 "{_shown(path)}"\n' + _INCLUDE.sub(replace, text)


def _shown(path: Path) -> str:
    """kernels/<name> for a file of the project, else its path."""
    root = folder()
    return f"kernels/{path.resolve().relative_to(root.resolve())}" if path.is_relative_to(root) else str(path)
