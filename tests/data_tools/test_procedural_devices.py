"""Procedural examples made on a device that is not the CPU, where there is none: nothing mixes.

A stand-in calls itself "meta", computes on the CPU, and refuses what a GPU refuses: arithmetic with
tensors that were left on the CPU, and turning its own into NumPy arrays.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from hisplat_data_tools.procedural import LAYOUTS, ProceduralDataset, ProceduralSettings
from hisplat_data_tools.procedural.batched.examples import make_examples
from hisplat_models.cameras import Cameras

STAND_IN = torch.device("meta")
MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class Away(Tensor):
    """A tensor on the stand-in; ``here`` holds its values."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "Away":
        made = Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=STAND_IN,
        )
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None):
        raise AssertionError(f"{operation} outside the stand-in")


class Operations(TorchDispatchMode):
    """Runs what is asked of the stand-in."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None):
        kwargs = dict(kwargs or {})
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        away = [value for value in tensors if isinstance(value, Away)]
        # Numbers in tensors may come from the CPU.
        left = [value for value in tensors if not isinstance(value, Away) and value.dim()]
        if away and left and operation not in MOVES:
            raise RuntimeError(f"{operation} of tensors on two devices")
        asked = kwargs.get("device")
        goes_away = bool(away) if asked is None else asked == STAND_IN
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        owners = {id(value.here): value for value in away}
        args, kwargs = tree_map(lambda v: v.here if isinstance(v, Away) else v, (args, kwargs))
        found = operation(*args, **kwargs)
        if not goes_away:
            return found
        return tree_map(
            # What was changed in place stays what it is.
            lambda v: owners.get(id(v), Away(v)) if isinstance(v, Tensor) else v,
            found,
        )


class Constants(TorchFunctionMode):
    """``torch.tensor`` makes tensors where operations are not seen; here it moves them."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ):
        kwargs = dict(kwargs or {})
        if function is torch.tensor:
            device = kwargs.pop("device", torch.device("cpu"))
            return function(*args, **kwargs).to(device)
        return function(*args, **kwargs)


@contextmanager
def stand_in() -> Iterator[None]:
    with Constants(), Operations():
        yield


def test_the_stand_in_computes_and_refuses_what_a_gpu_refuses():
    with stand_in():
        numbers = torch.arange(3, device=STAND_IN)
        numbers[1:] += torch.tensor([4, 5], device=STAND_IN)
        assert numbers.device == STAND_IN
        assert numbers.cpu().tolist() == [0, 5, 7]
        assert int((numbers * torch.tensor(2)).max()) == 14
        with pytest.raises(RuntimeError, match="two devices"):
            numbers.add(torch.arange(3))
        with pytest.raises(RuntimeError, match="two devices"):
            torch.arange(3)[numbers > 0]
        with pytest.raises((TypeError, RuntimeError), match="numpy"):
            numbers.numpy()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_examples_are_made_wholly_on_the_device(layout: str):
    settings = ProceduralSettings(
        height=32, width=40, samples_per_pixel=2, texture_size=32, layouts=(layout,)
    )
    dataset, indices = ProceduralDataset(settings, 2, 4), [0, 3]
    expected = list(make_examples(dataset, indices, torch.device("cpu"), workers=0))
    with stand_in():
        made = list(make_examples(dataset, indices, STAND_IN, workers=0))
    for one, other in zip(made, expected, strict=True):
        assert_equal(one, other)


def assert_equal(one: Any, other: Any) -> None:
    for f in fields(one):
        found, expected = getattr(one, f.name), getattr(other, f.name)
        if isinstance(expected, Cameras):
            assert_equal(found, expected)
        elif isinstance(expected, Tensor):
            assert found.device.type == "cpu"
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
