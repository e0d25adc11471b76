"""From a folder of galaxies and their labels to a trained network, its score, and its predictions.

    python docs/examples/train_galaxies.py IMAGES LABELS [SECTION.KEY=VALUE ...]

IMAGES is a folder of JPEG, PNG or FITS files, each named by its id; LABELS is a CSV file with the columns of the Galaxy
Challenge. After make demo: demo/galaxies/images_training_rev1 and demo/galaxies/training_solutions_rev1.csv. The script
writes galaxies-pack/, galaxies-run/ and galaxies-answers.csv. If training is interrupted, run the script again.
"""

import sys
from pathlib import Path

import gzkern
from gzkern.analysis.evaluation import evaluate
from gzkern.data.pack import is_pack, open_pack, pack
from gzkern.decision_trees.tree import load_tree
from gzkern.prediction.files import predict_files

PACK, RUN, ANSWERS = Path("galaxies-pack"), Path("galaxies-run"), Path("galaxies-answers.csv")


def main(images: str, labels: str, *settings: str) -> None:
    """Pack, train, evaluate, predict."""
    # A pack holds the images decoded, so that training does not decode each of them again and again.
    tree = load_tree("galaxy_zoo_2")
    if not is_pack(PACK):
        summary = pack(images, labels, PACK, tree)
        print(f"packed {summary.count} images of {summary.image_shape}, left out {len(summary.quarantined)}")

    # "laptop" learns within minutes on a CPU; "paper" is the published network and wants a GPU. `gzkern list settings`
    # explains every setting, such as train.examples=32000. The last tenth of the labels is held out for the score.
    config = gzkern.load_config("laptop", settings)
    run = gzkern.train(config, PACK, RUN, resume=True)
    print(run)

    # RMSE is the Challenge's score; the shares say how often the network's first choice is that of the volunteers.
    dataset = open_pack(PACK)
    part, result = evaluate(run, dataset)
    print(f"RMSE {result.rmse:.4f} on {result.images} images ({part})")
    for entry in result.questions:
        if entry.accuracy is not None:
            print(f"{entry.accuracy:6.1%} of {entry.images:5d}  {entry.question.text}")

    # One row an image, one column an answer. What the values mean: docs/answers.md.
    predict_files(run.predictor, config.data, [images], ANSWERS, overwrite=True)

    # The same for images in memory: (n, H, W, 3) bytes.
    answers = run.predict(dataset.images[:3])
    smooth, features, _ = tree.questions[0].answers
    for name, (p_smooth, p_features) in zip(dataset.ids, answers[:, :2], strict=False):
        print(f"{name}: {p_smooth:.0%} would say {smooth}, {p_features:.0%} {features}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except gzkern.GzkernError as error:
        sys.exit(f"train_galaxies: {error}")
