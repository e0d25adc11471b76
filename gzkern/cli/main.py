"""The command line: a thin shell over the package. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..config import PRECISIONS
from ..errors import GzkernError, InputError

if TYPE_CHECKING:
    from ..runs.run import Run

DONE, FAILED = 0, 1

_PREDICTION_PRECISIONS = (*PRECISIONS, "bf16")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed or some inputs skipped, 2 bad input."""
    options = _parser().parse_args(arguments)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's stop is a Ctrl-C
    try:
        return int(options.command(options))
    except GzkernError as error:
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted; no file was left half-written", FAILED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # keeps the interpreter's exit quiet
        return FAILED
    except MemoryError:
        return _complain("out of memory; take a smaller --batch or a pack in place of a folder", FAILED)
    except OSError as error:
        return _complain(f"{error.filename or 'system'}: {error.strerror or error}", FAILED)


def _complain(message: str, code: int) -> int:
    print(f"gzkern: {message}", file=sys.stderr)
    return code


# Commands


def _train(options: argparse.Namespace) -> int:
    from ..config import load_config
    from ..training.loop import train

    overrides = list(options.set)
    overrides += [
        f"train.{key}={value}" for key in ("batch", "seed", "precision") if (value := getattr(options, key)) is not None
    ]
    stored = Path(options.out) / "config.toml"
    if options.resume and not stored.is_file():
        raise InputError(f"{options.out}: nothing to resume (no config.toml in it); leave --resume out to start a run")
    source = options.config or (stored if options.resume else "paper")
    config = load_config(source, overrides)
    run = train(
        config,
        options.data,
        options.out,
        device=options.device,
        workers=options.workers,
        threads=options.threads,
        resume=options.resume,
        overwrite=options.overwrite,
        augment_on=options.augment_on,
    )
    print(f"wrote {run.path}: weights.safetensors, config.toml, metrics.jsonl, environment.json, checkpoints/")
    return FAILED if run.environment["data_skipped"] else DONE


def _evaluate(options: argparse.Namespace) -> int:
    from ..analysis.evaluation import evaluate
    from ..augment.geometry import reach
    from ..data.dataset import open_dataset

    run = _load_run(options)
    data = run.config.data
    dataset = open_dataset(options.data, run.network.tree, smallest=data.crop, reach=reach(data))
    part, result = evaluate(run, dataset, options.split, batch=options.batch)
    print(f"RMSE {result.rmse:.4f}")
    print(f"{result.images} images ({part}); accuracy where at least half the volunteers were asked:")
    for entry in result.questions:
        score = "     –" if entry.accuracy is None else f"{entry.accuracy:6.1%}"
        print(f"  Q{entry.question.id:<3}{score} of {entry.images:5d}  {entry.question.text}")
    return FAILED if _say_skipped(dataset.quarantined) else DONE


def _predict(options: argparse.Namespace) -> int:
    from ..prediction.files import predict_files

    run = _load_run(options)
    summary = predict_files(
        run.predictor,
        run.config.data,
        options.images,
        options.out,
        batch=options.batch,
        workers=options.workers,
        overwrite=options.overwrite,
    )
    print(f"wrote {options.out}: {summary.predicted} images × {len(run.network.tree)} answers")
    return FAILED if _say_skipped(summary.skipped) else DONE


def _pack(options: argparse.Namespace) -> int:
    from ..data.pack import pack
    from ..decision_trees.tree import load_tree

    summary = pack(
        options.folder,
        options.labels,
        options.out,
        load_tree(options.tree),
        crop=options.crop,
        resume=options.resume,
        overwrite=options.overwrite,
    )
    height, width = summary.image_shape[:2]
    print(f"wrote {options.out}: {summary.count:,} images of {width}×{height} pixels")
    if not _say_skipped(summary.quarantined):
        return DONE
    print(f"gzkern: all of them are listed in {Path(options.out, 'quarantine.csv')}", file=sys.stderr)
    return FAILED


def _recentre(options: argparse.Namespace) -> int:
    from ..data.recentring import recentre

    sets = ("gen1", "gen2") if options.set == "both" else (options.set,)
    for path, images, missing in recentre(options.pack, sets, workers=options.workers, overwrite=options.overwrite):
        print(f"wrote {path}: {images:,} images, {missing:,} of them without an object")
    return DONE


def _demo_data(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..data.demo import draw_demo_set

    with tqdm(total=options.count, unit="image") as bar:
        draw_demo_set(options.out, options.count, options.seed, workers=os.cpu_count() or 1, progress=bar.update)
    print(f"wrote {options.out}: {options.count} images, training_solutions_rev1.csv")
    return DONE


def _info(options: argparse.Namespace) -> int:
    import json

    from ..info import describe, render

    if options.memory:
        return _memory(options)
    for name in ("config", "batch", "precision"):
        if getattr(options, name) is not None:
            raise InputError(f"--{name}: goes with --memory; add that, or leave it out")
    info = describe()
    print(json.dumps(info, indent=1) if options.json else render(info))
    return DONE


def _memory(options: argparse.Namespace) -> int:
    import json

    from ..config import load_config
    from ..info import describe_memory, render_memory

    overrides = [f"train.precision={options.precision}"] if options.precision else []
    memory = describe_memory(load_config(options.config or "paper", overrides), options.batch)
    print(json.dumps(memory, indent=1) if options.json else render_memory(memory))
    return DONE


def _warmup(options: argparse.Namespace) -> int:
    from itertools import chain, product

    from ..config import load_config
    from ..device import select
    from ..models.algorithms import compiled
    from ..runtime import source
    from ..runtime.backend import Unit

    name = select(options.device).name
    if name == "cpu":
        print("device cpu has no kernels; its code is compiled, and kept, when it is first called")
        return DONE
    units: list[Unit] = [(stem, ()) for stem in source.stems_for_every_size()]
    if name == "cuda":
        from ..runtime.cuda_backend import backend as cuda

        limits = cuda().limits
        batches = options.batch or [load_config("paper").train.batch]
        tiles = (compiled(limits, *each) for each in product(batches, options.precision or ["fp32"]))
        units += dict.fromkeys(chain.from_iterable(tiles))
        compile_all = cuda().compile_all
    else:  # where the published network is too slow for anyone to ask for it
        from ..runtime.emulator import backend

        compile_all = backend.compile_all
    print(f"compiling {len(units)} files for device {name}", flush=True)
    for (file, tile), seconds in compile_all(units).items():
        arguments = f" <{', '.join(map(str, tile))}>" if tile else ""
        print(f"{seconds:7.2f} s  {file}{arguments}")
    return DONE


def _load_run(options: argparse.Namespace) -> Run:
    """The trained run of evaluate and predict, the options of its computation checked and applied."""
    from ..device import require_precision, select, set_threads
    from ..runs.run import BATCH, load

    run = load(options.run, options.device, options.precision)
    if not run.weights_file.is_file():
        print(f"gzkern: {run.path} is not trained to its end; taking its last checkpoint", file=sys.stderr)
    device = select(options.device)
    if options.precision:
        require_precision(device, options.precision)
    set_threads(device, options.threads)
    if options.batch is None:
        options.batch = BATCH
    if options.batch < 1:
        raise InputError(f"--batch {options.batch}: expected at least 1 image")
    return run


def _say_skipped(skipped: Sequence[tuple[object, str, str]]) -> bool:
    """List the inputs that were left out; True if there are any."""
    from ..data.loading import describe_skipped

    for line in describe_skipped(skipped):
        print(f"gzkern: {line}", file=sys.stderr)
    return bool(skipped)


# Arguments


if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=28, width=100)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gzkern",
        formatter_class=_Help,
        description="Train the network that won the Galaxy Challenge, and predict what volunteers would answer\n"
        "about your galaxies: 37 probabilities an image.",
        epilog="Start:  gzkern demo-data demo --count 400\n"
        "        gzkern train --data demo --out run --config laptop\n"
        "        gzkern predict run demo/images_training_rev1 --out answers.csv",
    )
    parser.add_argument("--version", action="version", version=f"gzkern {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    for add in (
        _add_train,
        _add_evaluate,
        _add_predict,
        _add_pack,
        _add_recentre,
        _add_demo_data,
        _add_info,
        _add_warmup,
    ):
        add(commands)
    return parser


def _command(commands: _Commands, name: str, function: object, summary: str, detail: str) -> argparse.ArgumentParser:
    sub = commands.add_parser(name, help=summary, description=f"{summary}\n\n{detail}", formatter_class=_Help)
    sub.set_defaults(command=function)
    return sub


def _add_train(commands: _Commands) -> None:
    sub = _command(
        commands,
        "train",
        _train,
        "Train a network on labelled galaxy images.",
        "Writes the run directory RUN. Ctrl-C stops after the current step with a checkpoint;\n"
        "the same command with --resume goes on, bit for bit as if it had never stopped.",
    )
    sub.add_argument("--data", required=True, metavar="DIR", help="a pack, or a folder in the Kaggle layout")
    sub.add_argument("--out", required=True, metavar="RUN", help="the run directory to write")
    sub.add_argument(
        "--config",
        metavar="NAME|FILE",
        help="paper (as published; the default), laptop (minutes), or a TOML file",
    )
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change one setting, e.g. --set train.lr=0.05; may be repeated",
    )
    sub.add_argument("--seed", type=int, metavar="S", help="of initialisation, order, augmentation and dropout")
    _add_workers(sub, "threads that augment on the CPU (default: auto, all cores but one for a GPU, else one; 0: none)")
    sub.add_argument("--resume", action="store_true", help="go on from the last checkpoint in RUN")
    sub.add_argument("--overwrite", action="store_true", help="delete the run in RUN first")
    sub.add_argument(
        "--augment-on",
        choices=("auto", "device", "cpu"),
        default="auto",
        help="where images are perturbed (default: on the device, where they fit into its memory)",
    )
    _add_compute(sub, PRECISIONS, "fp32")


def _add_evaluate(commands: _Commands) -> None:
    sub = _command(
        commands,
        "evaluate",
        _evaluate,
        "Score a trained network on labelled images.",
        "Prints Kaggle's root mean squared error and, question by question, how often the likeliest\n"
        "answer is the volunteers'. On the data the run was trained on only the held-out part counts.",
    )
    sub.add_argument("run", metavar="RUN", help="a run directory")
    sub.add_argument("--data", required=True, metavar="DIR", help="a pack, or a folder in the Kaggle layout")
    sub.add_argument("--split", choices=("validation", "train", "all"), help="score this part in place of the default")
    _add_compute(sub, _PREDICTION_PRECISIONS, "that of the training, fp32 on the CPU")


def _add_predict(commands: _Commands) -> None:
    sub = _command(
        commands,
        "predict",
        _predict,
        "Predict the answers for images.",
        "Writes a table with a row an image and a column an answer; for Galaxy Zoo 2 the CSV is a valid\n"
        "Kaggle submission. Files that cannot be read are listed and skipped, and the exit code is 1.",
    )
    sub.add_argument("run", metavar="RUN", help="a run directory")
    sub.add_argument(
        "images",
        metavar="IMAGES",
        nargs="+",
        help="folders, image files, globs, or a catalogue (CSV, Parquet); or one pack",
    )
    sub.add_argument("--out", required=True, metavar="FILE", help="FILE.csv or FILE.parquet")
    _add_workers(sub, "threads that decode (default: auto, one a core)")
    sub.add_argument("--overwrite", action="store_true", help="replace FILE")
    _add_compute(sub, _PREDICTION_PRECISIONS, "that of the training, fp32 on the CPU")


def _add_pack(commands: _Commands) -> None:
    sub = _command(
        commands,
        "pack",
        _pack,
        "Decode a folder of images once, into a cache that training reads fast.",
        "Files that cannot be used are listed in quarantine.csv with the reason, and the exit code is 1.\n"
        "What an interrupted job has done is kept beside DIR; the same command with --resume goes on.",
    )
    sub.add_argument("folder", metavar="FOLDER", help="a folder of <id>.jpg, .png or .fits")
    sub.add_argument("--labels", metavar="CSV", help="answer fractions, a row an id (default: pack without labels)")
    sub.add_argument("--out", required=True, metavar="DIR", help="the pack to write")
    sub.add_argument(
        "--tree",
        default="galaxy_zoo_2",
        metavar="NAME|FILE",
        help="decision tree of the labels (default: %(default)s)",
    )
    sub.add_argument(
        "--crop",
        type=int,
        metavar="N",
        help="keep the central N×N pixels (386 is all that --config paper samples of 424; default: all)",
    )
    sub.add_argument("--resume", action="store_true", help="go on with the job that was interrupted")
    sub.add_argument(
        "--overwrite", action="store_true", help="replace DIR if it is a pack; drop what an interrupted job has done"
    )


def _add_recentre(commands: _Commands) -> None:
    sub = _command(
        commands,
        "recentre",
        _recentre,
        "Find the galaxies of a pack, for configurations that recentre.",
        "They are stored in the pack, as objects_gen1.csv and objects_gen2.csv. Training and evaluation\n"
        "do the same where it is not done yet. Needs sep: pip install gzkern[astro].",
    )
    sub.add_argument("pack", metavar="PACK", help="a pack of whole images")
    sub.add_argument(
        "--set",
        choices=("gen1", "gen2", "both"),
        default="both",
        help="objects 10 sigma (gen1) or 2 sigma (gen2) above the background (default: %(default)s)",
    )
    _add_workers(sub, "processes that look for galaxies (default: auto, one a core)")
    sub.add_argument("--overwrite", action="store_true", help="find them anew")


def _add_demo_data(commands: _Commands) -> None:
    sub = _command(
        commands,
        "demo-data",
        _demo_data,
        "Draw a set of synthetic galaxies with the answers of simulated volunteers.",
        "The folder has the Kaggle layout; the same --count and --seed give the same files.",
    )
    sub.add_argument("out", metavar="OUT", type=Path, help="the folder to write")
    sub.add_argument("--count", type=int, default=400, metavar="N", help="number of images (default: %(default)s)")
    sub.add_argument("--seed", type=int, metavar="S", default=0, help="which galaxies are drawn (default: 0)")


def _add_info(commands: _Commands) -> None:
    sub = _command(
        commands,
        "info",
        _info,
        "Say what this machine has: devices, versions, folders.",
        "For a device that is not here, what is missing and how to get it.",
    )
    sub.add_argument("--json", action="store_true", help="the same as JSON")
    sub.add_argument(
        "--memory", action="store_true", help="say instead what a training step keeps in a device's memory, and where"
    )
    sub.add_argument("--config", metavar="NAME|FILE", help="with --memory: of this network (default: paper)")
    sub.add_argument("--batch", type=int, metavar="B", help="with --memory: images (default: the network's)")
    sub.add_argument("--precision", choices=PRECISIONS, help="with --memory: of the products (default: the network's)")


def _add_warmup(commands: _Commands) -> None:
    sub = _command(
        commands,
        "warmup",
        _warmup,
        "Compile all kernels, so that the first run need not.",
        "On a GPU also those of the published network's layers, which are compiled for their sizes and a precision.\n"
        "What is compiled is kept in the cache that gzkern info names. Device cpu has no kernels.",
    )
    _add_device(sub)
    text = f"some of {', '.join(_PREDICTION_PRECISIONS)} with commas, or all (default: fp32)"
    sub.add_argument("--precision", type=_precisions, metavar="P[,P…]|all", help=text)
    sub.add_argument(
        "--batch", type=_batches, metavar="B[,B…]", help="images of a step, some with commas (default: 16)"
    )


def _precisions(text: str) -> list[str]:
    found = list(_PREDICTION_PRECISIONS) if text == "all" else text.split(",")
    if not set(found) <= set(_PREDICTION_PRECISIONS):
        raise argparse.ArgumentTypeError(f"{text!r}: expected all or some of {','.join(_PREDICTION_PRECISIONS)}")
    return found


def _batches(text: str) -> list[int]:
    found = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in found):
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers of images, from 1 on, with commas")
    return [int(part) for part in found]


def _add_compute(sub: argparse.ArgumentParser, precisions: Sequence[str], default: str) -> None:
    _add_device(sub)
    sub.add_argument("--precision", choices=precisions, help=f"of the matrix products (default: {default})")
    sub.add_argument("--batch", type=int, metavar="B", help="images a network pass")
    sub.add_argument("--threads", type=int, metavar="N", help="compute threads (default: one a core)")


def _add_workers(sub: argparse.ArgumentParser, help: str) -> None:
    sub.add_argument("--workers", type=_workers, metavar="N|auto", help=help)


def _workers(text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected auto or a whole number, got {text!r}") from None


def _add_device(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "emulated"),
        help="where to compute (default: $GZKERN_DEVICE, else auto)",
    )
