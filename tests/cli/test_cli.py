"""The command line as a user meets it: outputs, exit codes, one sentence an error and never a traceback."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_configs import SMALL

from gzkern.cli.main import main

SETTINGS = [part for override in SMALL for part in ("--set", override)]


def test_the_main_job(tmp_path, capsys):
    data, packed, run = tmp_path / "data", tmp_path / "pack", tmp_path / "run"
    images, labels = data / "images_training_rev1", data / "training_solutions_rev1.csv"
    assert main(["demo-data", str(data), "--count", "40", "--seed", "5"]) == 0
    assert main(["pack", str(images), "--labels", str(labels), "--out", str(packed)]) == 0
    assert main(["train", "--data", str(packed), "--out", str(run), "--config", "laptop", *SETTINGS]) == 0
    assert main(["evaluate", str(run), "--data", str(packed)]) == 0
    assert main(["predict", str(run), str(images), "--out", str(tmp_path / "a.csv")]) == 0
    captured = capsys.readouterr()
    assert re.search(r"^RMSE 0\.\d{4}$", captured.out, re.MULTILINE)
    assert "4 images (validation)" in captured.out
    assert len(re.findall(r"^  Q\d+", captured.out, re.MULTILINE)) == 11
    assert "40 images × 37 answers" in captured.out
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 41


def test_skipped_inputs_are_listed_and_told_by_the_exit_code(demo_folder, demo_run, tmp_path, capsys):
    folder = tmp_path / "mixed"
    folder.mkdir()
    good = min((demo_folder / "images_training_rev1").glob("*.jpg"))
    (folder / good.name).write_bytes(good.read_bytes())
    (folder / "broken.jpg").write_bytes(good.read_bytes()[:3000])
    assert main(["predict", str(demo_run.path), str(folder), "--out", str(tmp_path / "a.csv")]) == 1
    errors = capsys.readouterr().err
    assert "broken.jpg: truncated after 3,000 bytes" in errors
    labels = demo_folder / "training_solutions_rev1.csv"
    assert main(["pack", str(folder), "--labels", str(labels), "--out", str(tmp_path / "pack")]) == 1
    errors = capsys.readouterr().err
    assert "broken.jpg: its name is not an id of the label file" in errors
    assert "skipped 39 labels without an image file, the first of id " in errors
    assert errors.endswith("all of them are listed in " + str(tmp_path / "pack" / "quarantine.csv") + "\n")


RUN, PACK, TMP = "{run}", "{pack}", "{tmp}"
MISTAKES = [
    (["train", "--data", f"{TMP}/none", "--out", f"{TMP}/r"], "no such folder"),
    (["train", "--data", PACK, "--out", f"{TMP}/r", "--config", "none"], "give a TOML file or one of: laptop, paper"),
    (["train", "--data", PACK, "--out", f"{TMP}/r", "--set", "train.lr"], "expected section.key=value"),
    (["train", "--data", PACK, "--out", f"{TMP}/r", "--set", "data.crop=9"], "[data] crop"),
    (["train", "--data", PACK, "--out", f"{TMP}/r", "--batch", "0"], "[train] batch"),
    (["train", "--data", PACK, "--out", f"{TMP}/r", "--seed", "-1"], "[train] seed"),
    (["train", "--data", PACK, "--out", f"{TMP}/r", "--device", "cuda"], "use --device cpu"),
    (["train", "--data", PACK, "--out", f"{TMP}/r", "--precision", "tf32"], "fp32 alone"),
    (["train", "--data", PACK, "--out", f"{TMP}/r", "--augment-on", "device"], "augments on the CPU anyway"),
    (["info", "--memory", "--batch", "0"], "--batch 0"),
    (["info", "--memory", "--config", "none"], "give a TOML file"),
    (["info", "--memory", "--batch", "99999999"], "take a smaller batch"),
    (["info", "--batch", "4"], "--batch: goes with --memory"),
    (["train", "--data", PACK, "--out", f"{TMP}/r", "--threads", "9999"], "--threads 9999"),
    (["train", "--data", PACK, "--out", f"{TMP}/r", "--workers", "-2"], "--workers -2"),
    (["train", "--data", PACK, "--out", f"{TMP}/r", "--set", "data.recentre=gen3"], "none, gen1, gen2"),
    (["train", "--data", PACK, "--out", f"{TMP}/r", "--set", "data.crop=200"], "is not target × scale"),
    (["train", "--data", PACK, "--out", f"{TMP}/r", "--workers", "100000000"], "--workers 100000000"),
    (["train", "--data", PACK, "--out", f"{TMP}/r", "--resume"], "nothing to resume"),
    (["train", "--data", PACK, "--out", RUN], "holds a run already"),
    (["evaluate", f"{TMP}/none", "--data", PACK], "not a run"),
    (["evaluate", RUN, "--data", f"{TMP}/none"], "no such folder"),
    (["evaluate", RUN, "--data", PACK, "--batch", "0"], "--batch 0"),
    (["evaluate", RUN, "--data", PACK, "--precision", "bf16"], "fp32 alone"),
    (["predict", RUN, f"{TMP}/none", "--out", f"{TMP}/a.csv"], "none"),
    (["predict", RUN, f"{TMP}/*.jpg", "--out", f"{TMP}/a.csv"], "*.jpg"),
    (["predict", RUN, PACK, "--out", f"{TMP}/a.txt"], "ends in .csv or .parquet"),
    (["predict", RUN, PACK, "--out", f"{TMP}/a.csv", "--workers", "0"], "--workers"),
    (["pack", f"{TMP}/none", "--out", f"{TMP}/p"], "none"),
    (["pack", PACK, "--labels", f"{TMP}/none.csv", "--out", f"{TMP}/p"], "none.csv"),
    (["pack", PACK, "--tree", "none", "--out", f"{TMP}/p"], "galaxy_zoo_2"),
    (["demo-data", f"{TMP}/d", "--count", "0"], "count of at least 1"),
    (["demo-data", f"{TMP}/d", "--seed", "-4"], "seed of at least 0"),
    (["demo-data", PACK], "not empty"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(m[0])[:60] for m in MISTAKES])
def test_mistakes(arguments, message, demo_run, demo_pack, tmp_path, capsys):
    names = {"run": demo_run.path, "pack": demo_pack, "tmp": tmp_path}
    assert main([argument.format(**names) for argument in arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gzkern: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert list(tmp_path.iterdir()) == [], "something was left behind"


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["train"], ["train", "--batch", "x"], ["evaluate", "r", "--split", "x"]]
)
def test_usage_errors_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: gzkern" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", "train", "evaluate", "predict", "pack", "demo-data", "list"])
def test_every_help_page(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    page = capsys.readouterr().out
    assert "usage: gzkern" in page
    assert all(len(line) <= 100 for line in page.splitlines())


def test_an_unfinished_run_says_so(demo_run, demo_folder, tmp_path, capsys):
    shutil.copytree(demo_run.path, tmp_path / "run")
    (tmp_path / "run" / "weights.safetensors").unlink()
    image = min((demo_folder / "images_training_rev1").glob("*.jpg"))
    assert main(["predict", str(tmp_path / "run"), str(image), "--out", str(tmp_path / "a.csv")]) == 0
    assert "is not trained to its end; taking its last checkpoint" in capsys.readouterr().err


def test_a_closed_pipe_is_quiet():
    shell = f"{sys.executable} -m gzkern --help | head -n 1"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def python_block(document):
    """The first block of Python in a document of the project."""
    text = (Path(__file__).parents[2] / document).read_text(encoding="utf-8")
    return re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)


def run_script(script, folder, *arguments):
    done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_driver_script(after_demo):
    """The ten lines of Python in the README, word for word but for the length of the run."""
    script, replaced = re.subn(r"train\.examples=\d+", "train.examples=64", python_block("README.md"))
    assert replaced == 1
    assert "Class1.1" in run_script(script, after_demo)


def test_the_search_for_spirals(after_demo):
    """The example of docs/answers.md, with every galaxy taken: the short run finds no disk."""
    assert main(["predict", "demo/run", "demo/pack", "--out", "demo/answers.csv"]) == 0
    script, replaced = re.subn(r"> 0\.5\b", "> 0", python_block("docs/answers.md"))
    assert replaced == 1
    shares = [float(line.split()[1]) for line in run_script(script, after_demo).splitlines()]
    assert 1 <= len(shares) <= 20
    assert shares == sorted(shares, reverse=True)
    assert 0 <= shares[-1] <= shares[0] <= 1


def test_the_example_script(after_demo):
    script = (Path(__file__).parents[2] / "docs/examples/train_galaxies.py").read_text(encoding="utf-8")
    data = ["demo/galaxies/images_training_rev1", "demo/galaxies/training_solutions_rev1.csv"]
    output = run_script(script, after_demo, *data, *SMALL)
    assert re.search(r"^packed 40 images of \(424, 424, 3\), left out 0\n<Run 'galaxies-run': trained, 160", output)
    assert re.search(r"^RMSE 0\.\d{4} on 4 images \(validation\)$", output, re.MULTILINE)
    assert output.count("would say smooth") == 3
    assert len((after_demo / "galaxies-answers.csv").read_text().splitlines()) == 41
    assert run_script(script, after_demo, *data, *SMALL).startswith("<Run 'galaxies-run': trained")  # nothing is redone


def test_the_example_script_with_bad_input(after_demo):
    script = Path(__file__).parents[2] / "docs/examples/train_galaxies.py"
    for arguments, message in (([], "IMAGES LABELS"), (["nowhere", "demo/none.csv"], "train_galaxies: demo/none.csv")):
        done = subprocess.run([sys.executable, script, *arguments], cwd=after_demo, capture_output=True, text=True)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr
