"""Published checkpoints there and back: every tensor under its name, or nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from hisplat_models.checkpoints import CheckpointError, MisfitError, create_skeleton, load_model
from hisplat_models.config import PRESETS
from hisplat_models.published_checkpoints import (
    Conversion,
    convert_published,
    from_published,
    to_published,
)
from tests.models.parity import published_shapes
from tests.models.small_published import SMALL, create_small, published_state, training_state

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def published() -> State:
    return dict(published_state())


@pytest.fixture(scope="module")
def checkpoint(published: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training state as Lightning leaves it."""
    path = tmp_path_factory.mktemp("published") / "last.ckpt"
    torch.save(training_state(published), path)
    return path


@pytest.fixture(scope="module")
def converted(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Conversion]:
    """The same as a file of ours."""
    path = tmp_path_factory.mktemp("converted") / "a.safetensors"
    return path, convert_published(checkpoint, path, config=SMALL)


def stored(path: Path) -> State:
    with safe_open(str(path), framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}


def assert_equal(a: State, b: State):
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []


def test_the_presets_tensors_are_the_published_ones():
    ours = to_published(create_skeleton(PRESETS["hisplat"]).state_dict())
    shapes = {f"encoder.{key}": shape for key, shape in published_shapes().items()}
    assert {key: tuple(tensor.shape) for key, tensor in ours.items()} == shapes


def test_to_published_and_back_is_identity():
    state = create_small().state_dict()
    assert_equal(from_published(to_published(state), SMALL), dict(state))


def test_converted_checkpoints_hold_the_published_weights(
    converted: tuple[Path, Conversion], published: State
):
    path, done = converted
    model = load_model(path)
    assert model.config == SMALL
    assert not model.training
    assert_equal(to_published(model.state_dict()), published)
    assert done.tensors == len(published) == 1227
    assert done.step == 300_001
    assert "optimizer_states" in done.left_out
    assert done.size == path.stat().st_size


def test_optimiser_state_is_dropped(
    checkpoint: Path, converted: tuple[Path, Conversion], published: State
):
    numbers = sum(tensor.nbytes for tensor in published.values())
    assert checkpoint.stat().st_size > 2 * numbers
    assert numbers < converted[1].size < 1.1 * numbers


def test_half_precision_halves_the_file_and_loads_as_single(
    converted: tuple[Path, Conversion], published: State, tmp_path: Path
):
    source = save_weights_part(published, tmp_path / "a.ckpt")
    half = convert_published(source, tmp_path / "b.safetensors", half=True, config=SMALL)
    assert 0.45 < half.size / converted[1].size < 0.55
    kinds = {str(t.dtype) for t in stored(tmp_path / "b.safetensors").values()}
    assert kinds == {"torch.float16", "torch.int64"}
    loaded = to_published(load_model(tmp_path / "b.safetensors").state_dict())
    for key, tensor in loaded.items():
        assert tensor.dtype == published[key].dtype
        assert torch.allclose(tensor, published[key], rtol=2**-11, atol=2**-24)


def without_prefix(state: State) -> State:
    return {key.removeprefix("encoder."): tensor for key, tensor in state.items()}


def save_bare(state: State, path: Path) -> Path:
    torch.save(without_prefix(state), path)
    return path


def save_weights_part(state: State, path: Path) -> Path:
    torch.save({"state_dict": state}, path)
    return path


def save_as_safetensors(state: State, path: Path) -> Path:
    save_file(state, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


@pytest.mark.parametrize("save", [save_bare, save_weights_part, save_as_safetensors])
def test_other_wrappings_of_the_same_weights_convert(
    save: Callable[[State, Path], Path], published: State, tmp_path: Path
):
    source = save(published, tmp_path / "source.ckpt")
    convert_published(source, tmp_path / "a.safetensors", config=SMALL)
    assert_equal(to_published(load_model(tmp_path / "a.safetensors").state_dict()), published)


NORM = "backbone.dino.vit.norm.weight"
COUNT = "backbone.dino.decoder_vit.proj.1.num_batches_tracked"
MISFITS: dict[str, Callable[[State], State]] = {
    f"missing {NORM}": lambda s: {k: t for k, t in s.items() if k != f"encoder.{NORM}"},
    "unknown decoder.color": lambda s: s | {"encoder.decoder.color": torch.ones(3)},
    r"vit.norm.weight: expected \(24,\), got \(24, 1\)": (
        lambda s: s | {f"encoder.{NORM}": torch.ones(24, 1)}
    ),
    r"got \(24,\) of int32": lambda s: s | {f"encoder.{NORM}": torch.ones(24, dtype=torch.int32)},
    r"num_batches_tracked: expected \(\) of int64": (
        lambda s: s | {f"encoder.{COUNT}": torch.tensor(0.0)}
    ),
}


@pytest.mark.parametrize("message", MISFITS)
def test_what_does_not_fit_is_told_and_nothing_written(
    message: str, published: State, tmp_path: Path
):
    source = save_weights_part(MISFITS[message](published), tmp_path / "wrong.ckpt")
    with pytest.raises(MisfitError, match=message) as refusal:
        convert_published(source, tmp_path / "a.safetensors", config=SMALL)
    assert len(refusal.value.misfit.lines()) == 1
    assert "wrong.ckpt" in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.ckpt"]


def test_all_that_does_not_fit_is_listed(published: State):
    few = dict(list(published.items())[:100]) | {
        f"encoder.new.{i}": torch.ones(1) for i in range(7)
    }
    with pytest.raises(MisfitError, match=r"\(1134\)") as refusal:
        from_published(few, SMALL)
    assert len(refusal.value.misfit.missing) == 1127
    assert len(refusal.value.misfit.unknown) == 7


def test_weights_of_another_size_do_not_fit_the_preset(published: State):
    with pytest.raises(MisfitError, match="expected"):
        from_published(published)


def test_names_both_with_and_without_prefix_are_refused(published: State):
    with pytest.raises(CheckpointError, match="with and without"):
        from_published(published | without_prefix(published), SMALL)


@pytest.mark.parametrize(
    ("value", "half", "message"),
    [
        (float("nan"), False, "not finite"),
        (float("inf"), False, "not finite"),
        (1e5, True, "too large for 16 bits"),
    ],
)
def test_weights_that_would_not_work_are_refused(
    value: float, half: bool, message: str, published: State, tmp_path: Path
):
    bad = published[f"encoder.{NORM}"].clone()
    bad[3] = value
    source = save_weights_part(published | {f"encoder.{NORM}": bad}, tmp_path / "bad.ckpt")
    with pytest.raises(CheckpointError, match=f"{NORM} holds numbers that are .*{message}"):
        convert_published(source, tmp_path / "a.safetensors", half=half, config=SMALL)
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize(
    "content",
    [
        torch.ones(3),
        {},
        {"epoch": 3, "step": 4},
        {"state_dict": {"encoder.w": "text"}},
        {"state_dict": {}},
        {"state_dict": {3: torch.ones(2)}},
        {"encoder.w": torch.eye(3).to_sparse()},
    ],
)
def test_files_without_a_state_dict_are_refused(content: object, tmp_path: Path):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"other\.ckpt"):
        convert_published(tmp_path / "other.ckpt", tmp_path / "a.safetensors", config=SMALL)


def test_tensors_of_a_state_with_foreign_objects_are_taken_on_request(
    published: State, tmp_path: Path
):
    foreign = {"hyper_parameters": {"check": create_small}}  # a function of this very suite
    torch.save({"state_dict": published} | foreign, tmp_path / "own.ckpt")
    target = tmp_path / "a.safetensors"
    with pytest.raises(CheckpointError, match="create_small"):
        convert_published(tmp_path / "own.ckpt", target, config=SMALL)
    convert_published(tmp_path / "own.ckpt", target, tensors_only=True, config=SMALL)
    assert_equal(to_published(load_model(target).state_dict()), published)
