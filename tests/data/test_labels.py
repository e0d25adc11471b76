import csv
import re

import numpy as np
import pytest
from data_files import TREE, write_labels
from hypothesis import given, settings
from hypothesis import strategies as st

from gzkern.data.labels import read_labels
from gzkern.decision_trees.tree import load_tree
from gzkern.errors import InputError

HEADER = ["GalaxyID", *TREE.columns]
ZEROS = ["0.0"] * len(TREE)


def write(path, rows, header=HEADER):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def assert_refused(path, *parts):
    """The message is the file's name followed by ``parts``, in their order."""
    with pytest.raises(InputError, match=".*".join(re.escape(str(part)) for part in (path, *parts))):
        read_labels(path, TREE)


@pytest.fixture(scope="module")
def small_tree(tmp_path_factory):
    path = tmp_path_factory.mktemp("tree") / "bars.toml"
    path.write_text('name = "bars"\n[[questions]]\nid = 1\nanswers = ["yes", "no"]\n')
    return load_tree(path)


def test_values_and_order_are_those_of_the_file(tmp_path):
    expected = write_labels(tmp_path / "l.csv", ["30", "7", "100"])
    labels = read_labels(tmp_path / "l.csv", TREE)
    assert labels.ids == ("30", "7", "100")
    assert labels.fractions.dtype == np.float32
    np.testing.assert_array_equal(labels.fractions, expected)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.dictionaries(
        st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=30),
        st.tuples(st.floats(0, 1), st.floats(0, 1)),
        min_size=1,
        max_size=8,
    ),
    swapped=st.booleans(),
)
def test_round_trip(tmp_path_factory, small_tree, rows, swapped):
    path = tmp_path_factory.getbasetemp() / "round_trip.csv"
    columns = small_tree.columns[::-1] if swapped else small_tree.columns
    order = [columns.index(c) for c in small_tree.columns]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *columns])
        writer.writerows([id_, *values] for id_, values in rows.items())
    labels = read_labels(path, small_tree)
    assert labels.ids == tuple(rows)
    np.testing.assert_array_equal(labels.fractions, np.float32(list(rows.values()))[:, order])


def test_ids_keep_their_text(tmp_path):
    ids = ["7", "007", "587732591714893851987654321", "J000000.00+000000.0"]
    assert read_labels(write(tmp_path / "l.csv", [[id_, *ZEROS] for id_ in ids]), TREE).ids == tuple(ids)


def test_byte_order_mark_line_ends_blank_lines_and_spaces(tmp_path):
    path = tmp_path / "l.csv"
    text = "\r\n".join([",".join(HEADER), "", ", ".join([" 5 ", *ZEROS]), "", ""])
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_labels(path, TREE).ids == ("5",)


def test_rounding_outside_the_range_is_clipped(tmp_path):
    path = write(tmp_path / "l.csv", [["1", "-5e-7", "1.0000005", *ZEROS[2:]]])
    np.testing.assert_array_equal(read_labels(path, TREE).fractions[0, :2], [0, 1])


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("", "empty cell"),
        ("half", "'half' is not a number"),
        ("nan", "nan, expected a fraction from 0 to 1"),
        ("inf", "inf, expected a fraction from 0 to 1"),
        ("1.1", "1.1, expected a fraction from 0 to 1"),
        ("-0.001", "-0.001, expected a fraction from 0 to 1"),
    ],
)
def test_bad_cell(tmp_path, cell, message):
    row = ["2", *ZEROS]
    row[HEADER.index("Class4.2")] = cell
    path = write(tmp_path / "l.csv", [["1", *ZEROS], row, ["3", *ZEROS]])
    assert_refused(path, "row 3, column Class4.2: " + message)


def test_bad_cell_is_named_by_the_column_of_the_file(tmp_path):
    header = ["GalaxyID", *TREE.columns[::-1]]
    path = write(tmp_path / "l.csv", [["1", *ZEROS[1:], "2"]], header)
    assert_refused(path, "row 2, column Class1.1: 2, expected a fraction")


def test_rows_count_lines_of_the_file(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("\n".join([",".join(HEADER), "", "", ",".join(["1", *ZEROS[1:], "x"])]))
    assert_refused(path, "row 4, column Class11.6: 'x'")


def test_bad_ids(tmp_path):
    path = write(tmp_path / "l.csv", [["8", *ZEROS], ["9", *ZEROS], [" 8", *ZEROS]])
    assert_refused(path, "row 4, column GalaxyID: id 8 stands in row 2 already")
    assert_refused(write(path, [["8", *ZEROS], ["", *ZEROS]]), "row 3, column GalaxyID: empty id")


@pytest.mark.parametrize("cells", [ZEROS, ["1", *ZEROS, "0"], ["1"]])
def test_wrong_number_of_cells(tmp_path, cells):
    assert_refused(write(tmp_path / "l.csv", [cells]), f"row 2: {len(cells)} cells, expected 38")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ([c for c in HEADER if c != "Class8.3"], "row 1: no column Class8.3"),
        (HEADER[:-5], "row 1: no column Class11.2, Class11.3, Class11.4 (and 2 more)"),
        ([*HEADER, "Class12.1"], "row 1: column Class12.1 is not an answer of decision tree galaxy_zoo_2"),
        ([*HEADER, "Class3.1"], "row 1: column Class3.1 stands twice"),
        (HEADER[1:], "row 1: the first column is Class1.1, expected the ids"),
    ],
)
def test_wrong_columns(tmp_path, header, message):
    assert_refused(write(tmp_path / "l.csv", [], header), message)


def test_files_that_are_no_label_files(tmp_path):
    path = tmp_path / "l.csv"
    path.write_bytes(b"")
    assert_refused(path, "empty file")
    path.write_text("\n\n")
    assert_refused(path, "empty file")
    path.write_text(",".join(HEADER) + "\n")
    assert_refused(path, "no rows")
    path.write_bytes(b"PK\x03\x04\0\0\0binary")
    assert_refused(path, "not a text file")
    path.write_bytes((",".join(HEADER) + "\n").encode() + b"\xff\xd8\xff\xe0")
    assert_refused(path, "not a text file")
    path.write_text('"' + "x" * 200_000)
    assert_refused(path, "not a CSV file")
    assert_refused(tmp_path / "absent.csv", "no such file")
    assert_refused(tmp_path, "is a directory")
