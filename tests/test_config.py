"""Configuration: presets, files, overrides, and one clear error for each mistake."""

import pytest

from gzkern import config as config_module
from gzkern.config import Config, load_config, presets, to_toml
from gzkern.errors import InputError


def test_a_configuration_survives_the_disk(tmp_path):
    path = tmp_path / "config.toml"
    for name in presets():
        config = load_config(name, ["train.seed=5", "model.units=[7]"])
        path.write_text(to_toml(config))
        assert load_config(path) == config


def test_the_published_run():
    train = load_config("paper").train
    assert (train.examples, train.batch, train.lr, train.lr_steps) == (25_000_000, 16, 0.04, (0.72, 0.92))
    assert (train.warmup_examples, train.chunk, train.momentum, train.dropout) == (10_000, 10_000, 0.9, 0.5)
    assert train.init == "published"


def test_overrides_take_toml_values_or_bare_text():
    config = load_config("paper", ["train.init=fan_in", "train.lr=1", "augment.flip=false", "data.validation=0.0"])
    assert (config.train.init, config.train.lr, config.augment.flip, config.data.validation) == (
        "fan_in",
        1.0,
        False,
        0,
    )
    assert isinstance(config.train.lr, float)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.recentre=gen3", "[data] recentre: expected one of none, gen1, gen2, got 'gen3'"),
        ("train.sampling=random", "[train] sampling: expected one of chunks, epochs, got 'random'"),
        ("train.lr", "expected section.key=value"),
        ("lr=3", "expected section.key=value"),
        ("trian.lr=3", "unknown section [trian]"),
        ("train.rate=3", "[train] has no key 'rate'"),
        ("train.lr=fast", "[train] lr: expected a number, got 'fast'"),
        ("train.lr=-1", "[train] lr: expected a rate above 0"),
        ("train.lr=nan", "[train] lr"),
        ("train.lr=inf", "[train] lr"),
        ("train.batch=1.5", "[train] batch: expected a whole number"),
        ("train.batch=true", "[train] batch: expected a whole number"),
        ("train.batch=0", "[train] batch: expected at least 1"),
        ("train.chunk=8", "[train] chunk: 8 is smaller than one batch"),
        ("train.lr_steps=[0.9, 0.2]", "[train] lr_steps"),
        ("train.dropout=1.0", "[train] dropout"),
        ("train.init=zeros", "[train] init: expected one of published, fan_in"),
        ("train.precision=fp64", "[train] precision"),
        ("train.seed=-1", "[train] seed"),
        ("train.examples=5", "[train] examples: 5 are fewer than one batch"),
        ("model.filters=[1, 2]", "[model] filters: expected four numbers"),
        ("model.filters=32", "[model] filters: expected a list"),
        ("model.filters=[1, 2, 3, 0]", "[model] filters: expected numbers of at least 1"),
        ("model.units=[0]", "[model] units"),
        ("model.head=softmax", "[model] head"),
        ("model.view_dense=-1", "[model] view_dense"),
        ("data.crop=200", "[data] crop: 200 is not target × scale = 69 × 3; set crop to 207"),
        ("data.scale=0.0", "[data] scale"),
        ("data.target=3", "[data] target"),
        ("data.validation=1.0", "[data] validation"),
        ("augment.zoom=0.5", "[augment] zoom"),
        ("augment.zoom=1e9", "[augment] zoom"),
        ("augment.translation=1e9", "[augment] translation"),
        ("augment.colour=1e30", "[augment] colour"),
        ("augment.rotation=400", "[augment] rotation"),
    ],
)
def test_mistakes_are_named(override, message):
    with pytest.raises(InputError) as caught:
        load_config("paper", [override])
    assert message in str(caught.value)


def test_files_that_are_no_configuration(tmp_path):
    with pytest.raises(InputError, match="laptop, paper"):
        load_config(tmp_path / "none.toml")
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="no such readable file"):
        load_config(path)
    path.write_text("[train\n")
    with pytest.raises(InputError, match="not valid TOML"):
        load_config(path)
    path.write_text("train = 3\n")
    with pytest.raises(InputError, match=r"train = 3, expected a section \[train\]"):
        load_config(path)
    with pytest.raises(InputError, match="expected a section"):
        load_config(path, ["train.lr=1"])


def test_a_configuration_cannot_be_changed():
    with pytest.raises(AttributeError):
        Config().train.lr = 1.0


def test_repr_is_the_call_that_makes_a_configuration():
    assert repr(Config()) == repr(load_config("paper")) == "Config()"
    changed = load_config("laptop", ["data.recentre=gen2", "train.lr_steps=[0.5]"])
    assert "recentre='gen2'" in repr(changed)
    assert eval(repr(changed), vars(config_module)) == changed
