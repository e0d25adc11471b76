import threading
import warnings

import pytest

from gzkern.core.silence import silence


def shown(record):
    return [str(warning.message) for warning in record]


def test_only_the_block_is_silent():
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        warnings.warn("before", stacklevel=1)
        with silence():
            warnings.warn("inside", stacklevel=1)
            with silence():
                warnings.warn("deep inside", stacklevel=1)
            warnings.warn("inside still", DeprecationWarning, stacklevel=1)
        warnings.warn("after", stacklevel=1)
    assert shown(record) == ["before", "after"]


def test_an_exception_ends_it():
    with pytest.raises(ValueError, match="anything"), silence():
        raise ValueError("anything")
    with pytest.warns(UserWarning, match="after"):
        warnings.warn("after", stacklevel=1)


def test_other_threads_are_heard():
    entered, warned = threading.Event(), threading.Event()

    def be_silent():
        with silence():
            entered.set()
            warned.wait(60)
            warnings.warn("here", stacklevel=1)

    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        thread = threading.Thread(target=be_silent)
        thread.start()
        entered.wait(60)
        warnings.warn("there", stacklevel=1)
        warned.set()
        thread.join()
    assert shown(record) == ["there"]


def test_the_filters_of_others_stay_as_they_are():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with silence():
            warnings.warn("inside", stacklevel=1)
        with pytest.raises(UserWarning, match="after"):
            warnings.warn("after", stacklevel=1)
    for _ in range(3):
        with silence():
            count = len(warnings.filters)
    assert len(warnings.filters) == count
