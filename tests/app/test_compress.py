"""The compress command: every method end to end, stops and goes on, refuses what cannot work."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hisplat_app.cli import main
from hisplat_app.compression_run import CompressionRun
from hisplat_models.checkpoints import load_model, save_model
from hisplat_models.compression.hisplat.costs import layer_flops
from hisplat_models.training import Trainer, TrainProgress, TrainSettings
from tests.models.compression.small_hisplat import KINDS, create

SIZES = ["--examples", "2", "--validation-examples", "1", "--width", "48", "--height", "32"]
SIZES += ["--targets", "1", "--batch-size", "1", "--workers", "0", "--warmup-steps", "1"]
SIZES += ["--latency-size", "32", "48", "--latency-repeats", "1", "--steps", "2"]
PARTS = ["--parts", "cnn", "transformer"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(create(KINDS["hisplat-small"]), path)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize(
    ("method", "keep"), [("s2h", 0.9), ("stp", 0.6), ("st", 0.8), ("gkt", 0.8)]
)
def test_every_method_leaves_a_smaller_network_and_its_card(
    method: str, keep: float, model: Path, cache: Path, tmp_path: Path
):
    out = tmp_path / "out"
    arguments = ["--model", str(model), "--out", str(out), "--method", method, *SIZES]
    arguments += ["--keep-flops", str(keep), "--cache", str(cache), "--mask-learning-rate", "3"]
    assert main(["compress", *arguments, *PARTS]) == 0
    whole, slim = load_model(model), load_model(out / "slim.safetensors")
    card = json.loads((out / "slim.json").read_text())
    saved = layer_flops(whole, (32, 48)) - layer_flops(slim, (32, 48))
    assert saved == card["flops"]["whole"] - card["flops"]["kept"] > 0
    assert method == "s2h" or card["flops"]["share"] <= keep + 0.01
    assert card["parameters"]["kept"] == sum(p.numel() for p in slim.parameters())
    assert set(card["quality"]["procedural"]) >= {"whole", "slim"}
    assert card["seconds"]["1 threads"]["slim"]["layers"] > 0
    text = (out / "slim.md").read_text()
    assert f"{card['flops']['share']:.1%}" in text
    if method in ("st", "gkt"):
        fast = load_model(out / "elastic.safetensors", depth="fast")
        assert layer_flops(fast, (32, 48)) == layer_flops(slim, (32, 48))
        assert {k: v.shape for k, v in fast.state_dict().items()} == {
            k: v.shape for k, v in slim.state_dict().items()
        }


class Terminated(CompressionRun):
    """A run that is asked to stop at its first step."""

    @contextmanager
    def progress(self, trainer: Trainer) -> Iterator[Callable[[TrainProgress], None]]:  # pyright: ignore
        yield lambda _: signal.raise_signal(signal.SIGTERM)


def test_a_terminated_compression_goes_on_where_it_stopped(
    model: Path, cache: Path, tmp_path: Path
):
    out = tmp_path / "out"
    settings = TrainSettings(steps=3, batch_size=1, workers=0, warmup_steps=1)
    run = CompressionRun(
        str(model),
        out,
        examples=2,
        validation_examples=1,
        width=48,
        height=32,
        targets=1,
        cache=cache,
        latency_size=(32, 48),
        latency_repeats=1,
        parts=("cnn",),
        train=settings,
    )
    stopped = Terminated(**{**vars(run)})
    assert stopped.run() == 143
    assert not (out / "slim.safetensors").exists()
    assert run.run() == 0
    assert '"resumed_at": 1' in (out / "log.jsonl").read_text()
    assert json.loads((out / "slim.json").read_text())["steps"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "cnn", "vit"], "Expected some of the parts ['cnn', 'transformer', 'stages']"),
        (["--method", "st", "--keep-flops", "0.2"], "take a method that narrows: stp, s2h"),
        (["--method", "stp", "--keep-flops", "0.01"], "Expected a budget of at least"),
        (["--keep-flops", "1.5"], "Expected a share to keep in (0, 1], got 1.5"),
        (["--parts", "cnn", "--keep-stages", "0.5"], "--keep-stages: not among the parts"),
        (["--width", "50"], "--width and --height: expected multiples of 16"),
        (["--evaluate-on", "nowhere"], "--evaluate-on: there is no folder nowhere"),
        (["--precision", "bf16"], "Compression works without"),
        (["--latency-size", "0", "0"], "--latency-size must be at least 1, got 0"),
        (["--pool-size", "0"], "--pool-size must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    arguments: list[str],
    message: str,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    out = tmp_path / "out"
    common = ["--model", str(model), "--out", str(out), *SIZES, "--cache", str(tmp_path / "c")]
    assert main(["compress", *common, *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(out.glob("*"))


def test_a_compressed_network_is_not_compressed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    network = create(KINDS["hisplat-small"])
    network.depths = {"fast": frozenset({"transformer.layers.1"}), "balanced": frozenset()}
    elastic, fast = tmp_path / "elastic.safetensors", tmp_path / "fast.safetensors"
    save_model(network, elastic)
    save_model(load_model(elastic, depth="fast"), fast)
    assert main(["compress", "--model", str(fast), "--out", str(tmp_path / "out"), *SIZES]) == 2
    assert "is compressed already" in " ".join(capsys.readouterr().err.split())
