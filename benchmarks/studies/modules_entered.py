"""Count the modules that one call enters: the rooms that a reader walks through to follow it.

python -m benchmarks.studies.modules_entered [PATH]

A module is entered when one of its functions runs. Counted are ``Network.predict`` on the device cpu and
``Network.loss_and_gradients`` on the device emulated, each at its second call. PATH is another checkout of this project
to count in; the script needs nothing of the package but ``build_network`` and ``load_config``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any


def entered(call: Callable[[], Any], package: Path) -> list[str]:
    """The modules of a package whose functions run during a call, in the order of their first turn."""
    found: dict[str, None] = {}

    def look(frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and frame.f_code.co_name != "<module>" and path.is_relative_to(package):
            found[path.relative_to(package).with_suffix("").as_posix()] = None

    sys.setprofile(look)
    try:
        call()
    finally:
        sys.setprofile(None)
    return list(found)


def main(arguments: list[str]) -> int:
    """Print both lists."""
    root = Path(arguments[0] if arguments else Path(__file__).parents[2]).resolve()
    sys.path.insert(0, str(root))
    import numpy as np

    import gzkern

    package = Path(gzkern.__file__).parent
    assert package.is_relative_to(root), f"{package} was imported already"
    rng = np.random.default_rng(0)
    crops, targets = rng.integers(0, 256, (2, 2, 69, 69, 3), np.uint8), rng.random((2, 37), np.float32)
    config = gzkern.load_config("laptop")
    on_cpu, emulated = (gzkern.build_network(config, device) for device in ("cpu", "emulated"))
    calls = {
        "Network.predict on cpu": lambda: on_cpu.predict(crops),
        "Network.loss_and_gradients on emulated": lambda: emulated.loss_and_gradients(crops, targets),
    }
    for name, call in calls.items():
        call()
        modules = entered(call, package)
        print(f"{name}: {len(modules)} modules\n  " + "\n  ".join(modules))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
