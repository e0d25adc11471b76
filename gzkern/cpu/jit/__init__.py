"""The fast float32 paths of the CPU device: Numba, around two register tiles written as vector code."""
# mypy: disable-error-code="no-untyped-def, attr-defined"

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path

from numba import config, njit

from ..first_compile_notice import print_first_compile_notice

print_first_compile_notice()


def compiled(**options):
    """``numba.njit`` without the interpreter lock, kept on disk in a folder named by the sources of this package.

    Numba's own cache follows changes of a function's file and not of the files it calls, so that a new ``tiles``
    would leave old code in the convolutions.
    """

    def decorate(function):
        before, config.CACHE_DIR = config.CACHE_DIR, str(_cache_folder())
        try:
            return njit(nogil=True, cache=True, error_model="numpy", **options)(function)
        finally:
            config.CACHE_DIR = before

    return decorate


@cache
def _cache_folder() -> Path:
    """NUMBA_CACHE_DIR or the user's cache, else the system's temporary folder."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = f"gzkern-{digest.hexdigest()[:16]}"
    for base in (config.CACHE_DIR, user, tempfile.gettempdir()):
        folder = Path(base or user, name)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            own = folder.stat().st_uid == os.getuid()  # what another user put there would be run
        except OSError:
            continue
        if own and os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.mkdtemp(prefix="gzkern-"))
