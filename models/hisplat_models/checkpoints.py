"""Weights in and out: safetensors files that carry their configuration."""

import json
import os
import tempfile
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .config import HiSplatConfig
from .model_sources import CheckpointError, bundled_models, find_weights, shown
from .network import HiSplat

__all__ = [
    "CheckpointError",
    "Misfit",
    "MisfitError",
    "bundled_models",
    "compare_states",
    "config_from_dict",
    "create_skeleton",
    "fit_state",
    "load_model",
    "read_metadata",
    "read_safetensors",
    "save_model",
    "save_weights",
    "write_safetensors",
]

_METADATA_KEY = "hisplat_config"


def load_model(source: str | Path = "hisplat-small", device: str | torch.device = "cpu") -> HiSplat:
    """A network with trained weights, in evaluation mode; half-precision files become float32.

    A file from a stranger can do no harm: nothing in it is run, its configuration is checked, and
    nothing is allocated before the shapes of all its tensors turn out to be the network's.

    Args:
        source: A bundled name (``bundled_models()``), a .safetensors file that ``save_model`` or
            ``hisplat convert`` wrote, or ``hf://OWNER/REPO/PATH/FILE.safetensors[@REVISION]``.
        device: Where to put it.

    Raises:
        CheckpointError: if there is no such model, or the file does not hold exactly the weights
            of its configuration.
        ImportError: for a Hub address without huggingface_hub.
    """
    path = find_weights(source)
    with _opened(path) as file:
        config = _stored_config(file.metadata(), path)
        header = {key: _described(file, key, path) for key in file.keys()}
        misfit = compare_states(create_skeleton(config).state_dict(), header)
        if misfit:
            raise MisfitError(str(path), misfit)
        model = HiSplat(config)
        for key, tensor in model.state_dict().items():
            tensor.copy_(file.get_tensor(key))
    return model.to(device).eval()


def save_model(model: HiSplat, path: str | Path, state: Mapping[str, Tensor] | None = None) -> None:
    """Writes the weights (or ``state`` instead, e.g. averaged ones) and the configuration."""
    save_weights(model.config, model.state_dict() if state is None else state, path)


def save_weights(config: HiSplatConfig, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Writes the weights of a network of this configuration; the file appears whole or not at all.

    Raises:
        CheckpointError: if the file cannot be written.
    """
    write_safetensors(state, {_METADATA_KEY: json.dumps(asdict(config))}, path)


def write_safetensors(
    state: Mapping[str, Tensor], metadata: Mapping[str, str], path: str | Path
) -> None:
    """Writes tensors and texts; the file appears whole or not at all.

    Raises:
        CheckpointError: if the file cannot be written.
    """
    path = Path(path)
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    os.close(handle)
    try:
        save_file(tensors, temporary, {**metadata, "format": "pt"})
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except SafetensorError as error:
        raise CheckpointError(f"Cannot write {path}: {error}.") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of any safetensors file.

    Raises:
        CheckpointError: if it is not such a file.
    """
    with _opened(path) as file:
        return {key: file.get_tensor(key) for key in file.keys()}


def read_metadata(path: Path) -> dict[str, str]:
    """The texts of any safetensors file.

    Raises:
        CheckpointError: if it is not such a file.
    """
    with _opened(path) as file:
        return file.metadata() or {}


# ---- Fit ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Misfit:
    """How tensors differ from those expected; false if they do not.

    Attributes:
        missing: Expected but not there.
        unknown: There but not expected.
        wrong: Of another shape or kind: name, what was expected, what came.
    """

    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    wrong: tuple[tuple[str, str, str], ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unknown or self.wrong)

    def lines(self) -> list[str]:
        """One line for each difference."""
        return [
            *(f"missing {key}" for key in self.missing),
            *(f"unknown {shown(key)}" for key in self.unknown),
            *(f"{key}: expected {expected}, got {came}" for key, expected, came in self.wrong),
        ]


class MisfitError(CheckpointError):
    """Tensors that are not the network's; ``misfit`` tells all."""

    def __init__(self, source: str, misfit: Misfit):
        lines = misfit.lines()
        few = "; ".join(lines[:5]) + (" …" if len(lines) > 5 else "")
        super().__init__(f"{source} does not fit the network ({len(lines)}): {few}.")
        self.misfit = misfit


def compare_states(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Misfit:
    """What differs in name, shape or kind of number; precision may differ, values are not read."""
    wrong = [
        (key, _summary(expected[key]), _summary(found[key]))
        for key in expected
        if key in found and _summary(expected[key]) != _summary(found[key])
    ]
    return Misfit(
        tuple(key for key in expected if key not in found),
        tuple(key for key in found if key not in expected),
        tuple(wrong),
    )


def _summary(tensor: Tensor) -> str:
    kind = "" if tensor.is_floating_point() else f" of {str(tensor.dtype).removeprefix('torch.')}"
    return f"{tuple(tensor.shape)}{kind}"


def fit_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Loads exactly these tensors.

    Raises:
        MisfitError: listing what is missing, left over, or of another shape.
    """
    misfit = compare_states(model.state_dict(), state)
    if misfit:
        raise MisfitError(source, misfit)
    model.load_state_dict(dict(state))


def create_skeleton(config: HiSplatConfig) -> HiSplat:
    """The network without any memory for its weights: names and shapes only.

    Raises:
        CheckpointError: if there is no such network.
    """
    try:
        with torch.device("meta"):
            return HiSplat(config)
    except Exception as error:  # sizes that do not go together fail anywhere in the construction
        raise CheckpointError(f"No network has this configuration: {shown(error)}.") from error


# ---- Files --------------------------------------------------------------------------------------

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"Cannot read {path} as safetensors: {shown(error)}.") from error


def _described(file: Any, key: str, path: Path) -> Tensor:
    """Shape and kind of a stored tensor, without its content."""
    part = file.get_slice(key)
    if part.get_dtype() not in _DTYPES:
        raise CheckpointError(f"{path} holds {part.get_dtype()} numbers, which weights never are.")
    return torch.empty(part.get_shape(), dtype=_DTYPES[part.get_dtype()], device="meta")


def _stored_config(metadata: dict[str, str] | None, path: Path) -> HiSplatConfig:
    if not metadata or _METADATA_KEY not in metadata:
        raise CheckpointError(
            f"{path} holds no HiSplat configuration; expected a file written by this program. "
            "hisplat convert makes one of a published checkpoint."
        )
    try:
        values = json.loads(metadata[_METADATA_KEY])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} holds a broken configuration: {shown(error)}.") from error
    return config_from_dict(values)


# ---- Configurations from files ------------------------------------------------------------------

_LARGEST = 8192
_LARGEST_BY_NAME = {
    "corr_levels": 12,
    "depth": 64,
    "depth_candidates": 1024,
    "error_stride": 64,
    "refine_levels": 12,
    "sh_degree": 4,
    "size_multiple": 256,
    "stride": 64,
    "transformer_layers": 64,
}
_LONGEST = 16


def config_from_dict(values: Any) -> HiSplatConfig:
    """The inverse of ``dataclasses.asdict`` for network configurations; checks types and ranges.

    Raises:
        CheckpointError: for fields that are missing, unknown, or of values that no network has.
    """
    try:
        return _as_type(HiSplatConfig, values, "")
    except _Unfit as error:
        raise CheckpointError(
            f"The file's configuration does not fit this version: {error}."
        ) from error


class _Unfit(Exception):
    """A value that cannot stand where it does."""


def _as_type(kind: Any, value: Any, place: str) -> Any:
    """The JSON value as an instance of an annotated type."""
    if is_dataclass(kind):
        return _as_dataclass(kind, value, place)
    origin = get_origin(kind)
    if origin is tuple:
        return _as_tuple(get_args(kind), value, place)
    if origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in get_args(kind)):
            raise _Unfit(f"{place}: expected one of {get_args(kind)}, got {shown(repr(value))}")
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(kind):
            return None
        (kind,) = [choice for choice in get_args(kind) if choice is not type(None)]
        return _as_type(kind, value, place)
    return _as_scalar(kind, value, place)


def _as_dataclass(kind: Any, value: Any, place: str) -> Any:
    if type(value) is not dict:
        raise _Unfit(f"{place or 'it'}: expected fields, got {shown(repr(value))}")
    hints = get_type_hints(kind)
    unknown = [shown(name) for name in value if name not in hints]
    required = [f.name for f in fields(kind) if f.default is f.default_factory is MISSING]
    missing = [name for name in required if name not in value]
    if unknown or missing:
        raise _Unfit(f"{place or 'it'}: missing fields {missing}, unknown fields {unknown[:5]}")
    dot = f"{place}." if place else ""
    try:
        return kind(**{name: _as_type(hints[name], v, dot + name) for name, v in value.items()})
    except ValueError as error:  # a class may check more than its types say
        raise _Unfit(f"{place or 'it'}: {shown(error)}") from error


def _as_tuple(kinds: tuple[Any, ...], value: Any, place: str) -> tuple[Any, ...]:
    if type(value) is not list or len(value) > _LONGEST:
        raise _Unfit(f"{place}: expected a short list, got {shown(repr(value))}")
    if kinds[1:] == (...,):
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise _Unfit(f"{place}: expected {len(kinds)} entries, got {len(value)}")
    pairs = zip(kinds, value, strict=True)
    return tuple(_as_type(kind, v, f"{place}[{i}]") for i, (kind, v) in enumerate(pairs))


def _as_scalar(kind: type, value: Any, place: str) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise _Unfit(f"{place}: expected {kind.__name__}, got {shown(repr(value))}")
    largest = _LARGEST_BY_NAME.get(place.rpartition(".")[2], _LARGEST)
    if kind in (int, float) and not 0 <= value <= largest:  # also refuses NaN
        raise _Unfit(f"{place}: expected at most {largest}, and at least 0, got {value}")
    return value
