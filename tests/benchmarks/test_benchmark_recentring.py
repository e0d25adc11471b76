import numpy as np
import pytest

from benchmarks.recentring import statistics, table


def test_the_table_of_the_comparison():
    sizes = np.array([400.0, 200.0, 160.0, 128.0, 80.0, np.nan])
    objects = np.column_stack([np.arange(6.0), np.arange(6.0) + 10, sizes / 5, sizes, sizes, np.full(6, 5.0)])
    x, y, size, *s, below, above, missing = statistics(objects)
    assert (x, y, size, s[2]) == (2.5, 12.5, 160, 1.0)
    assert (below, above, missing) == pytest.approx((100 / 6,) * 3)
    lines = table("gen2", {"these": objects})
    assert lines[:2] == ["| gen2 | published | these |", "|---|---|---|"]
    assert lines[2].startswith("| median x | 213.2 | 2.50 ± ")
    assert len(lines) == 2 + 11
