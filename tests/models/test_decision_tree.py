"""Reading trees: what Galaxy Zoo 2 holds, and one clear error for each mistake."""

import numpy as np
import pytest

from gzkern.decision_trees.tree import load_tree
from gzkern.errors import InputError

QUESTION = '[[questions]]\nid = 1\nanswers = ["a", "b"]\n'


def test_galaxy_zoo_2():
    tree = load_tree()
    assert len(tree) == 37
    assert tree.columns[0] == "Class1.1"
    assert tree.columns[-1] == "Class11.6"
    parents = {q.id: None if q.parent is None else tree.columns[q.parent] for q in tree.questions}
    assert parents == {
        1: None, 2: "Class1.2", 3: "Class2.2", 4: "Class2.2", 5: "Class2.2", 6: None, 7: "Class1.1",
        8: "Class6.1", 9: "Class2.1", 10: "Class4.1", 11: "Class4.1",
    }  # fmt: skip
    rank = np.argsort(tree.order)
    for index, parent in enumerate(tree.parents):
        assert parent < 0 or rank[tree.question_of[parent]] < rank[index]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not valid TOML"),
        (QUESTION, 'expected name = "…"'),
        ('name = "t"\n', "at least one"),
        ('name = "t"\n[[questions]]\nid = 1\nanswers = ["a"]\n', "needs at least two answers"),
        ('name = "t"\n' + QUESTION + QUESTION, "question 1 stands twice"),
        ('name = "t"\n' + QUESTION + "parent = [2, 1]\n", "parent must be"),
        ('name = "t"\n' + QUESTION + "parent = [[1], 2]\n", "parent must be"),
        ('name = "t"\n' + QUESTION + "parent = [1, 3]\n", "has answers 1 to 2"),
        ('name = "t"\n' + QUESTION + "parent = [1, 1]\n", "leads back to itself"),
        ('name = "t"\n' + QUESTION + "parent = [1, 1]\nunscaled = true\n", "unscaled and has a parent"),
        ('name = "t"\ncolumn = "x"\n' + QUESTION, "gives one name to two answers"),
        ('name = "t"\ncolumn = "{wrong}"\n' + QUESTION, "column pattern"),
        ('name = "t"\nquestions = [3]\n', "each question needs"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    path = tmp_path / "tree.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_tree(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "tree.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not valid TOML"):
        load_tree(tmp_path / "tree.toml")


def test_an_unknown_tree_names_the_shipped_ones():
    with pytest.raises(InputError, match="galaxy_zoo_2"):
        load_tree("galaxy_zoo_9")
