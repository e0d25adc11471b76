"""``gzkern list``: decision trees, presets and settings, complete and in words."""

import dataclasses
import tomllib

import pytest

from gzkern.cli.main import main
from gzkern.config import Config, describe_preset, load_config, presets, settings
from gzkern.decision_trees.tree import load_tree


def listed(capsys, *arguments):
    assert main(["list", *arguments]) == 0
    return capsys.readouterr().out


def test_trees_have_every_question_column_and_answer(capsys):
    text, tree = listed(capsys, "trees"), load_tree()
    assert text.startswith("galaxy_zoo_2: 11 questions, 37 answers")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for question in tree.questions:
        assert f"Q{question.id} {question.text}" in lines
        for column, answer in zip(tree.columns[question.columns], question.answers, strict=True):
            assert any(line.split(" →")[0] == f"{column} {answer}" for line in lines)
    assert "Class4.1 yes → Q10, Q11" in lines
    assert lines.count('asked after "no" to Q2; its answers sum to Class2.2') == 3
    assert lines.count("asked for every image; its answers sum to 1") == 2


def test_a_tree_of_a_file_is_listed(tmp_path, capsys):
    file = tmp_path / "tree.toml"
    file.write_text('name = "mine"\n[[questions]]\nid = 4\ntext = "Ring?"\nanswers = ["yes", "no"]\n')
    assert listed(capsys, "trees", str(file)).splitlines()[2:] == [
        "  Q4  Ring?",
        "      asked for every image; its answers sum to 1",
        "      4.1         yes",
        "      4.2         no",
    ]


def test_presets_say_how_they_differ(capsys):
    text = listed(capsys, "presets")
    for name in presets():
        assert f"{name}: {describe_preset(name)}" in text
        assert describe_preset(name).endswith(".")
    assert "    train.lr = 0.1\n" in listed(capsys, "presets", "laptop")
    assert len(listed(capsys, "presets", "paper").splitlines()) == 1


def test_what_presets_lists_makes_the_preset_of_paper(capsys):
    lines = listed(capsys, "presets", "laptop").splitlines()[1:]
    assert load_config("paper", [line.strip() for line in lines]) == load_config("laptop")


def test_settings_are_complete_and_can_be_set(capsys):
    text = listed(capsys, "settings")
    for setting in settings(Config()):
        (line,) = (line for line in text.splitlines() if line.startswith(f"{setting.key} = "))
        default = line.removeprefix(setting.key).strip(" =").split("  ")[0]
        assert tomllib.loads(f"value = {default}")["value"] == json_like(setting.default)
        assert setting.meaning.split()[-1] in text
    sections = [getattr(Config(), field.name) for field in dataclasses.fields(Config)]
    assert len(settings(Config())) == sum(len(dataclasses.fields(section)) for section in sections)


def json_like(value):
    return list(value) if isinstance(value, tuple) else value


def test_one_section_is_listed(capsys):
    text = listed(capsys, "settings", "data")
    assert "data.crop" in text
    assert "train.lr =" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trees", "nowhere"), "gzkern: decision tree 'nowhere': no such file"),
        (("presets", "huge"), "gzkern: preset 'huge': expected one of laptop, paper"),
        (("settings", "foo"), "gzkern: section 'foo': expected one of model, data, augment, train"),
    ],
)
def test_unknown_names_are_refused(arguments, message, capsys):
    assert main(["list", *arguments]) == 2
    assert message in capsys.readouterr().err
