"""What the kernel tests measured, for ``--record FILE``."""

import contextlib
from collections import defaultdict
from functools import cache

import pytest

_measured = pytest.StashKey[list]()


@pytest.fixture(scope="session")
def measured(pytestconfig) -> list:
    """Append rows here: device, kernel (or operation), proof, and the largest error as a fraction of its bound."""
    return pytestconfig.stash.setdefault(_measured, [])


@pytest.fixture(scope="session", autouse=True)
def _compiled(request) -> None:
    """Compile for the emulated device in one step, before the first test that would do it file by file."""
    from gzkern.errors import InputError
    from gzkern.runtime import source
    from gzkern.runtime.emulator import backend

    if any(item.get_closest_marker("gxx") for item in request.session.items):
        with contextlib.suppress(InputError):  # no compiler: the tests say so, one by one
            backend.compile_all((stem, ()) for stem in source.stems_for_every_size())


@pytest.fixture(scope="session")
def compiler(lacking):
    """Call with a name of benchmarks.profile.nvrtc_versions for that NVRTC, which works until the session ends."""
    from benchmarks.profile.nvrtc_versions import Compiler
    from gzkern.errors import InputError

    with contextlib.ExitStack() as stack:

        @cache
        def start(name):
            try:
                return stack.enter_context(Compiler(name))
            except InputError as error:
                lacking("nvrtc", str(error))

        yield start


def pytest_sessionfinish(session):
    path = session.config.getoption("--record")
    rows = session.config.stash.get(_measured, [])
    if path and rows:
        from benchmarks.harness.report import machine, write_json
        from gzkern.device import select

        facts = machine()
        for device in {row["device"] for row in rows}:
            facts.update(select(device).describe())
        groups = defaultdict(list)
        for row in rows:
            groups[row["device"], row["kernel"], row["proof"]].append(row.get("error", 0.0))
        summary = [
            {"device": device, "kernel": kernel, "proof": proof, "runs": len(errors), "error": max(errors)}
            for (device, kernel, proof), errors in sorted(groups.items())
        ]
        write_json(path, {**facts, "failed": session.testsfailed, "rows": summary})
