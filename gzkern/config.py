"""The configuration of a run: one frozen dataclass, TOML on disk, presets by name.

A configuration is complete and resolved: whatever a run depends on beside its data stands in it, and the copy
in a run directory reproduces the run.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path

from .errors import InputError

_PRESETS = Path(__file__).parent / "presets"
PRECISIONS = ("fp32", "tf32", "fp32x3")
"""That a network can be trained in."""


def _setting(default: typing.Any, meaning: str) -> typing.Any:
    """A field of a section: its default, and what ``gzkern list settings`` says of it."""
    return field(default=default, metadata={"meaning": meaning})


class _ShortRepr:
    """A dataclass whose ``repr`` is the call that makes it, without the arguments that are at their defaults."""

    def __repr__(self) -> str:
        published = type(self)()
        names = [f.name for f in dataclasses.fields(typing.cast(typing.Any, self))]
        changed = {name: getattr(self, name) for name in names if getattr(self, name) != getattr(published, name)}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"


@dataclass(frozen=True, repr=False)
class ModelConfig(_ShortRepr):
    """The network (paper, network architecture).

    Four convolutions, with 2×2 pools after the first, second and fourth; optionally a dense layer on each viewpoint;
    then dense layers; then the answers.
    """

    filters: tuple[int, ...] = _setting((32, 64, 128, 128), "filters of each of the four convolutions")
    filter_sizes: tuple[int, ...] = _setting((6, 5, 3, 3), "height and width of their filters, in pixels")
    head: str = _setting("maxout", 'activation of the dense layers: "maxout" (two pieces a unit) or "relu"')
    units: tuple[int, ...] = _setting((2048, 2048), "units of each dense layer before the answers")
    view_dense: int = _setting(0, "units of a dense maxout layer on each viewpoint; 0: no such layer")


@dataclass(frozen=True, repr=False)
class DataConfig(_ShortRepr):
    """The crop of an image (paper, preprocessing), the images that are held out, and the tree of the answers."""

    crop: int = _setting(207, "side of the square of the image that the network sees, in image pixels: target × scale")
    target: int = _setting(69, "side of the crop, in samples")
    scale: float = _setting(3.0, "image pixels from one sample to the next")
    recentre: str = _setting(
        "none", 'move and scale each galaxy to one place and size, measured as "gen1" or "gen2" of the original; "none"'
    )
    validation: float = _setting(0.1, "fraction at the end of the label file that is held out; 0: train on all")
    tree: str = _setting("galaxy_zoo_2", "decision tree of the answers: the name of a shipped one, or a TOML file")


@dataclass(frozen=True, repr=False)
class AugmentConfig(_ShortRepr):
    """Random perturbations of a training image (paper, data augmentation)."""

    rotation: float = _setting(360.0, "angles are uniform in [0, rotation), in degrees")
    translation: float = _setting(4.0, "shifts along each axis are uniform in ± translation, in image pixels")
    zoom: float = _setting(1.3, "zoom factors are log-uniform in [1/zoom, zoom]")
    flip: bool = _setting(True, "mirror each image with probability 1/2")
    colour: float = _setting(0.5, "standard deviation of the shift along the colour axis")


@dataclass(frozen=True, repr=False)
class TrainConfig(_ShortRepr):
    """The optimisation (paper, training)."""

    examples: int = _setting(25_000_000, "training examples of the whole run")
    batch: int = _setting(16, "examples of one step")
    lr: float = _setting(0.04, "learning rate of the first steps")
    lr_steps: tuple[float, ...] = _setting((0.72, 0.92), "fractions of the run at which the rate is divided by ten")
    momentum: float = _setting(0.9, "momentum, as Nesterov's")
    warmup_examples: int = _setting(
        10_000, "first examples, trained without the decision tree; at most a tenth of the run is taken"
    )
    sampling: str = _setting(
        "chunks", '"chunks" (each drawn anew from all images) or "epochs" (every image once, in a new order)'
    )
    chunk: int = _setting(10_000, "examples of a chunk, drawn without replacement")
    dropout: float = _setting(0.5, "probability to drop an input of a dense layer")
    init: str = _setting("published", '"published" (the paper\'s standard deviations) or "fan_in"')
    seed: int = _setting(0, "key of initialisation, order, augmentation and dropout")
    precision: str = _setting(
        "fp32", 'precision of the matrix products: "fp32", "tf32" or "fp32x3"; the CPU has "fp32"'
    )
    validate_every: int = _setting(200_000, "examples from one validation to the next")
    checkpoints_kept: int = _setting(3, "last checkpoints that stay in the run directory")


@dataclass(frozen=True, repr=False)
class Config(_ShortRepr):
    """A whole configuration; immutable, checked when built. Its defaults are the preset "paper".

    >>> load_config("paper", ["train.examples=320", "data.validation=0.2"])
    Config(data=DataConfig(validation=0.2), train=TrainConfig(examples=320))
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        _check(self)


_HEADS = ("maxout", "relu")
_INITS = ("published", "fan_in")
SAMPLINGS = ("chunks", "epochs")
RECENTRE = ("none", "gen1", "gen2")


def load_config(source: str | Path = "paper", overrides: typing.Sequence[str] = ()) -> Config:
    """Read a configuration and apply ``section.key=value`` overrides.

    Args:
        source: the name of a preset ("paper", "laptop") or the path of a TOML file; keys that a file leaves out
            are those of "paper".
        overrides: e.g. ``["train.lr=0.1", "model.filters=[16, 32, 32, 32]"]``; values in TOML notation, or bare text.

    Raises:
        InputError: no such file or preset, not TOML, an unknown section or key, or a value that cannot be.

    >>> import gzkern
    >>> config = gzkern.load_config("laptop", ["train.lr=0.05"])
    >>> config.train.lr, config.model.units
    (0.05, (256, 256))
    """
    preset = _PRESETS / f"{source}.toml"
    path = preset if preset.is_file() else Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise InputError(
            f"configuration {str(source)!r}: no such readable file; give a TOML file or one of: {', '.join(presets())}"
        ) from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"configuration {path}: not valid TOML ({error})") from None
    for override in overrides:
        _override(document, override)
    return from_document(document, f"{path} with --set" if overrides else str(path))


def presets() -> list[str]:
    """Return the names of the shipped configurations.

    >>> presets()
    ['laptop', 'paper']
    """
    return sorted(path.stem for path in _PRESETS.glob("*.toml"))


def describe_preset(name: str) -> str:
    """Return the sentence in the first line of a shipped configuration."""
    return (_PRESETS / f"{name}.toml").read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


@dataclass(frozen=True)
class Setting:
    """One setting of a configuration.

    Attributes:
        key: as ``--set`` takes it, such as "train.lr".
        value: that of the configuration.
        default: the published one.
        meaning: a phrase, with its unit.
    """

    key: str
    value: typing.Any
    default: typing.Any
    meaning: str


def settings(config: Config) -> list[Setting]:
    """List all settings of a configuration.

    >>> [setting.key for setting in settings(load_config("laptop")) if setting.value != setting.default][:2]
    ['model.filters', 'model.units']
    """
    return [
        Setting(f"{section.name}.{f.name}", getattr(values, f.name), f.default, f.metadata["meaning"])
        for section in dataclasses.fields(config)
        for values in [getattr(config, section.name)]
        for f in dataclasses.fields(values)
    ]


def from_document(document: dict, where: str) -> Config:
    """A configuration from parsed TOML; ``where`` names it in errors."""
    sections = {f.name: f.default_factory for f in dataclasses.fields(Config)}
    built = {}
    for name, values in document.items():
        if name not in sections:
            raise InputError(f"{where}: unknown section [{name}]; expected {', '.join(sections)}")
        if not isinstance(values, dict):
            raise InputError(f"{where}: {name} = {values!r}, expected a section [{name}]")
        kind = typing.cast(type, sections[name])
        fields = {f.name: f for f in dataclasses.fields(kind)}
        for key in values:
            if key not in fields:
                raise InputError(f"{where}: [{name}] has no key {key!r}; it has {', '.join(fields)}")
        built[name] = kind(
            **{key: _convert(value, fields[key].default, f"{where}: [{name}] {key}") for key, value in values.items()}
        )
    return Config(**built)


def to_toml(config: Config) -> str:
    """The complete configuration as TOML text."""
    import tomli_w

    return tomli_w.dumps(dataclasses.asdict(config))


def _override(document: dict, text: str) -> None:
    name, equals, value = text.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and section and key):
        raise InputError(f"--set {text!r}: expected section.key=value, e.g. train.lr=0.1")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    values = document.setdefault(section, {})
    if not isinstance(values, dict):
        raise InputError(f"--set {text!r}: the configuration has {section} = {values!r}, expected a section")
    values[key] = parsed


def _convert(value: typing.Any, default: typing.Any, what: str) -> typing.Any:
    """``value`` as the type of ``default``; whole numbers pass for real ones."""
    if isinstance(default, tuple):
        if not isinstance(value, list):
            raise InputError(f"{what}: expected a list, got {value!r}")
        sample = default[0]
        return tuple(_convert(item, sample, what) for item in value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not type(default):
        raise InputError(f"{what}: expected {_TYPE_NAMES[type(default)]}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{what}: expected a finite number, got {value}")
    return value


_TYPE_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _check(config: Config) -> None:
    model, data, augment, train = config.model, config.data, config.augment, config.train

    def require(condition: bool, message: str) -> None:
        if not condition:
            raise InputError(message)

    require(len(model.filters) == 4, f"[model] filters: expected four numbers, got {list(model.filters)}")
    require(
        len(model.filter_sizes) == 4,
        f"[model] filter_sizes: expected four numbers, got {list(model.filter_sizes)}",
    )
    for key in ("filters", "filter_sizes", "units"):
        values = getattr(model, key)
        require(all(v >= 1 for v in values), f"[model] {key}: expected numbers of at least 1, got {list(values)}")
    require(model.head in _HEADS, f"[model] head: expected one of {', '.join(_HEADS)}, got {model.head!r}")
    require(model.view_dense >= 0, f"[model] view_dense: expected 0 or more units, got {model.view_dense}")
    require(8 <= data.target <= 1024, f"[data] target: expected 8 to 1024 samples, got {data.target}")
    require(data.scale > 0, f"[data] scale: expected a number above 0, got {data.scale}")
    require(
        round(data.target * data.scale) == data.crop,
        f"[data] crop: {data.crop} is not target × scale = {data.target} × {data.scale:g}; "
        f"set crop to {round(data.target * data.scale)} or change the others",
    )
    require(data.recentre in RECENTRE, f"[data] recentre: expected one of {', '.join(RECENTRE)}, got {data.recentre!r}")
    require(0 <= data.validation < 1, f"[data] validation: expected 0 up to below 1, got {data.validation}")
    require(0 <= augment.rotation <= 360, f"[augment] rotation: expected 0 to 360, got {augment.rotation}")
    require(
        0 <= augment.translation <= 1000,
        f"[augment] translation: expected 0 to 1000 pixels, got {augment.translation}",
    )
    require(1 <= augment.zoom <= 10, f"[augment] zoom: expected a factor from 1 to 10, got {augment.zoom}")
    require(0 <= augment.colour <= 100, f"[augment] colour: expected 0 to 100, got {augment.colour}")
    for key in ("examples", "batch", "chunk", "validate_every", "checkpoints_kept"):
        require(getattr(train, key) >= 1, f"[train] {key}: expected at least 1, got {getattr(train, key)}")
    require(
        train.examples >= train.batch,
        f"[train] examples: {train.examples} are fewer than one batch of {train.batch}",
    )
    require(
        train.sampling in SAMPLINGS,
        f"[train] sampling: expected one of {', '.join(SAMPLINGS)}, got {train.sampling!r}",
    )
    require(
        train.chunk >= train.batch,
        f"[train] chunk: {train.chunk} is smaller than one batch of {train.batch}",
    )
    require(
        train.warmup_examples >= 0,
        f"[train] warmup_examples: expected 0 or more, got {train.warmup_examples}",
    )
    require(train.lr > 0, f"[train] lr: expected a rate above 0, got {train.lr}")
    require(
        list(train.lr_steps) == sorted(train.lr_steps) and all(0 < s < 1 for s in train.lr_steps),
        f"[train] lr_steps: expected rising fractions between 0 and 1, got {list(train.lr_steps)}",
    )
    require(0 <= train.momentum < 1, f"[train] momentum: expected 0 up to below 1, got {train.momentum}")
    require(0 <= train.dropout < 1, f"[train] dropout: expected 0 up to below 1, got {train.dropout}")
    require(train.init in _INITS, f"[train] init: expected one of {', '.join(_INITS)}, got {train.init!r}")
    require(0 <= train.seed < 2**64, f"[train] seed: expected 0 to 2⁶⁴ − 1, got {train.seed}")
    require(
        train.precision in PRECISIONS,
        f"[train] precision: expected one of {', '.join(PRECISIONS)}, got {train.precision!r}",
    )
