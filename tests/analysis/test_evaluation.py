"""Scores: Kaggle's error by hand, accuracy where half the crowd was asked, never the training images unasked."""

import numpy as np
import pytest

from gzkern.analysis.evaluation import evaluate, rmse, score
from gzkern.data.opening import open_dataset
from gzkern.data.pack import open_pack, pack
from gzkern.decision_trees.tree import load_tree
from gzkern.errors import InputError

TREE = load_tree()


def test_rmse_is_over_images_and_answers():
    predictions, targets = np.zeros((5, 37), np.float32), np.zeros((5, 37), np.float32)
    predictions[2, 3] = 2
    assert rmse(predictions, targets) == pytest.approx(np.sqrt(4 / (5 * 37)))
    assert np.isnan(rmse(np.full((1, 37), np.nan), np.zeros((1, 37))))


def test_accuracy_counts_only_images_that_half_the_crowd_was_asked_about():
    targets = np.zeros((3, 37))
    targets[:, 0:3] = [[0.2, 0.8, 0], [0.6, 0.4, 0], [0.5, 0.5, 0]]
    targets[:, 3:5] = [[0.5, 0.3], [0.4, 0.0], [0.1, 0.4]]  # asked of 0.8, 0.4 and 0.5
    predictions = targets.copy()
    predictions[0, 3:5] = [0.1, 0.7]
    result = score(predictions, targets, TREE)
    assert result.images == 3
    first, edge_on, bar = result.questions[:3]
    assert (first.images, first.correct, first.accuracy) == (3, 3, 1)
    assert (edge_on.images, edge_on.correct, edge_on.accuracy) == (2, 1, 0.5)
    assert (bar.images, bar.accuracy) == (0, None)


def test_own_data_is_scored_on_the_held_out_part_and_other_data_whole(demo_run, demo_pack, demo_folder, tmp_path):
    own = open_dataset(demo_pack, TREE, smallest=207, reach=0)
    part, result = evaluate(demo_run, own)
    assert (part, result.images) == ("validation", 4)
    assert result.rmse == pytest.approx(demo_run.metrics[-1]["valid_rmse"], rel=1e-5)
    assert evaluate(demo_run, own, "train")[1].images == 36
    assert evaluate(demo_run, own, "all")[1].images == 40
    labels = (demo_folder / "training_solutions_rev1.csv").read_text().splitlines()
    (tmp_path / "few.csv").write_text("\n".join(labels[:6]) + "\n")
    pack(demo_folder / "images_training_rev1", tmp_path / "few.csv", tmp_path / "other", TREE, progress=False)
    part, result = evaluate(demo_run, open_pack(tmp_path / "other"))
    assert (part, result.images) == ("all", 5)


def test_data_without_labels_is_refused(demo_run, demo_folder, tmp_path):
    pack(demo_folder / "images_training_rev1", None, tmp_path / "bare", TREE, progress=False)
    with pytest.raises(InputError, match="no labels to compare with"):
        evaluate(demo_run, open_pack(tmp_path / "bare"))
