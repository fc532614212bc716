"""Tensors out of the files that ``torch.save`` writes, without running what such files may hold.

A pickle is a program: it may name any function and have it called. Two readers keep that from
happening. ``torch.load(weights_only=True)`` refuses whatever is not on its list; training states
of earlier versions of PyTorch and Lightning are often not (the learning-rate schedule
``OneCycleLR`` stored a function until PyTorch 2.4). For those, the program is *followed* here
without being run: every name stays a name, every call but that of a tensor's own construction
yields a placeholder. Nothing is imported, called or changed on behalf of the file.
"""

import logging
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from .model_sources import CheckpointError, shown

logger = logging.getLogger(__name__)

_ZIP_MAGIC = b"PK\x03\x04"
_LARGEST_PICKLE = 64 * 2**20
"""Bytes of the pickled structure; that of a large training state has about one million."""


class RefusedError(CheckpointError):
    """A file that names what does not belong in a training state."""


def read_pickled(path: Path, tensors_only: bool = False) -> Any:
    """What ``torch.save`` wrote: containers, numbers, text, and tensors mapped from the file.

    Objects of other kinds are not created; where they are ordinary parts of training states,
    ``Placeholder`` stands in their place.

    Args:
        path: A file of PyTorch 1.6 or later.
        tensors_only: Put placeholders also where the file names things that do not belong in a
            training state, instead of refusing the file. No more of it is run than otherwise.

    Raises:
        CheckpointError: if it cannot be read.
        RefusedError: if it names such things.
    """
    _check_is_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # what torch raises has no common class; the follower says why
        logger.info("torch refused %s: %s", path, shown(error))
    value, strangers = follow_pickle(path)
    if strangers and not tensors_only:
        raise RefusedError(
            f"{path} is refused: it names {_listed(strangers)}, which may run code. "
            "Nothing was run."
        )
    return value


def _listed(names: Iterable[str], most: int = 5) -> str:
    names = [shown(name) for name in names]
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")


def _check_is_archive(path: Path) -> None:
    """Refuses formats and compression that PyTorch 1.6 and later do not write.

    The older formats have had holes even with ``weights_only`` (CVE-2025-32434), and what is not
    compressed cannot grow when it is read.
    """
    try:
        with path.open("rb") as file:
            readable = file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
        if readable:
            with zipfile.ZipFile(path) as archive:
                kinds = {info.compress_type for info in archive.infolist()}
                readable = kinds <= {zipfile.ZIP_STORED}
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is damaged or cut off: {shown(error)}.") from error
    if not readable:
        raise CheckpointError(
            f"{path} is not a checkpoint of PyTorch 1.6 or later; older ones must be saved anew."
        )


# ---- Following a pickle -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Name:
    """A function or class that a pickle names; it is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        module = "builtins" if self.module == "__builtin__" else self.module
        return f"{module}.{self.name}"


@dataclass(frozen=True, eq=False)
class Placeholder:
    """Stands for an object that was not created."""

    made_by: str


@dataclass(frozen=True, eq=False)
class _Storage:
    """A run of numbers in the archive."""

    key: str
    dtype: torch.dtype
    length: int


_STORAGES = {
    f"torch.{kind}Storage": dtype
    for kind, dtype in {
        "Float": torch.float32,
        "Double": torch.float64,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
_DTYPES = {str(value) for value in vars(torch).values() if isinstance(value, torch.dtype)}

# Names that training states hold as a matter of course. Being listed here lets a file pass as a
# whole; it gives no name any power.
_ORDINARY = {
    *_STORAGES,
    *_DTYPES,
    "torch.Size",
    "torch.device",
    "torch.nn.parameter.Parameter",
    "torch.optim.lr_scheduler.OneCycleLR",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "builtins.bytearray",
    "builtins.complex",
    "builtins.dict",
    "builtins.float",
    "builtins.int",
    "builtins.list",
    "builtins.set",
    "builtins.str",
    "builtins.tuple",
    "collections.Counter",
    "collections.OrderedDict",
    "collections.defaultdict",
    "_codecs.encode",
    "typing.Any",
}
_ORDINARY_PREFIXES = (
    "lightning.",
    "numpy.",
    "omegaconf.",
    "pathlib.",
    "pytorch_lightning.",
)
_GETATTR = "builtins.getattr"
_SCHEDULES = ("_annealing_cos", "_annealing_linear")


def follow_pickle(path: Path) -> tuple[Any, tuple[str, ...]]:
    """The content with placeholders, and which names do not belong in a training state.

    Raises:
        CheckpointError: if the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = _Records(path, archive)
            follower = _Follower(records.tensor)
            return follower.run(records.pickle()), tuple(follower.strangers)
    except CheckpointError:
        raise
    except Exception as error:  # damage shows anywhere, from the archive to a stack run empty
        reason = f"{type(error).__name__}: {shown(error)}"
        raise CheckpointError(f"Cannot read {path} as a PyTorch checkpoint ({reason}).") from error


class _Records:
    """The parts of an archive; tensors are views of the mapped file."""

    def __init__(self, path: Path, archive: zipfile.ZipFile):
        self._path = path
        self._archive = archive
        self._by_name = {info.filename: info for info in archive.infolist()}
        (pickle_name,) = [name for name in self._by_name if name.endswith("/data.pkl")]
        self._root = pickle_name.removesuffix("data.pkl")
        self._length = path.stat().st_size
        self._file = torch.UntypedStorage.from_file(str(path), False, self._length)
        order = self._by_name.get(f"{self._root}byteorder")
        if order is not None and archive.read(order) != b"little":
            raise ValueError("its numbers are not little-endian")

    def pickle(self) -> bytes:
        """The pickled structure."""
        info = self._by_name[f"{self._root}data.pkl"]
        if info.file_size > _LARGEST_PICKLE:
            raise ValueError(f"its structure has {info.file_size} bytes")
        return self._archive.read(info)

    def tensor(
        self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
    ) -> Tensor:
        """A view of the file.

        Raises:
            ValueError: if it would reach beyond its storage; ``set_`` would enlarge that instead.
        """
        info = self._by_name[f"{self._root}data/{storage.key}"]
        start = self._content_start(info)
        nbytes = storage.length * storage.dtype.itemsize
        if not 0 <= nbytes <= info.file_size or start + nbytes > self._length:
            raise ValueError(f"tensor data {storage.key} are cut off")
        steps = [(count - 1) * step for count, step in zip(size, stride, strict=True)]
        reach = offset + sum(steps) if 0 not in size else 0
        if min(offset, *size, *stride, 0) < 0 or reach >= max(storage.length, 1):
            raise ValueError(f"a tensor reaches beyond its data {storage.key}")
        numbers = self._file[start : start + nbytes]
        assert isinstance(numbers, torch.UntypedStorage)
        if start % storage.dtype.itemsize:
            numbers = numbers.clone()
        return torch.empty(0, dtype=storage.dtype).set_(numbers, offset, size, stride)

    def _content_start(self, info: zipfile.ZipInfo) -> int:
        """The local header repeats the name and may be padded otherwise than the directory says."""
        with self._path.open("rb") as file:
            file.seek(info.header_offset)
            header = file.read(30)
        name, extra = struct.unpack("<HH", header[26:30])
        return info.header_offset + 30 + name + extra


_TensorMaker = Callable[[_Storage, int, tuple[int, ...], tuple[int, ...]], Tensor]
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,  # whether things are equal is none of our business
}
_KEYS = (str, int, float, bool, bytes, type(None))
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
_NOTHING_TO_DO = {"PROTO", "FRAME"}


@dataclass
class _Follower:
    """A pickle machine whose calls are not made.

    What can be on its stack: None, booleans, numbers, text, bytes, lists, tuples and dicts of
    such, ``Name``, ``Placeholder``, ``_Storage`` and tensors. None of it has behaviour that
    the file could have chosen.
    """

    make_tensor: _TensorMaker
    strangers: dict[str, None] = field(default_factory=dict)
    _stack: list[Any] = field(default_factory=list)
    _outer: list[list[Any]] = field(default_factory=list)
    _memo: dict[Any, Any] = field(default_factory=dict)

    def run(self, pickle: bytes) -> Any:
        """The value that the pickle describes."""
        for opcode, argument, _ in pickletools.genops(pickle):
            code = opcode.name
            if code in _LITERALS:
                self._stack.append(argument)
            elif code in _PUTS:
                self._memo[len(self._memo) if argument is None else argument] = self._stack[-1]
            elif code in _GETS:
                self._stack.append(self._memo[argument])
            elif code in _CONSTANTS:
                self._stack.append(_CONSTANTS[code]())
            elif code == "MARK":
                self._outer.append(self._stack)
                self._stack = []
            elif code == "TUPLE":
                values, self._stack = self._stack, self._outer.pop()
                self._stack.append(tuple(values))
            elif code == "STOP":
                return self._stack.pop()
            elif code not in _NOTHING_TO_DO:
                getattr(self, f"_on_{code.lower()}", self._refuse)(argument)
        raise EOFError("the pickle has no end")

    def _refuse(self, argument: Any) -> NoReturn:
        raise ValueError("its pickle has instructions that no checkpoint needs")

    # -- stack --

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise ValueError("its pickle takes more than it has")
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def _pop_mark(self) -> list[Any]:
        values, self._stack = self._stack, self._outer.pop()
        return values

    def _on_pop(self, argument: None) -> None:
        self._stack.pop()

    # -- containers --

    def _on_tuple1(self, argument: None) -> None:
        self._stack.append(tuple(self._pop(1)))

    def _on_tuple2(self, argument: None) -> None:
        self._stack.append(tuple(self._pop(2)))

    def _on_tuple3(self, argument: None) -> None:
        self._stack.append(tuple(self._pop(3)))

    def _on_list(self, argument: None) -> None:
        values = self._pop_mark()
        self._stack.append(values)

    def _on_dict(self, argument: None) -> None:
        values = self._pop_mark()
        self._stack.append(_as_dict(values))

    def _on_frozenset(self, argument: None) -> None:
        self._on_list(argument)

    def _on_append(self, argument: None) -> None:
        self._extend(self._pop(1))

    def _on_appends(self, argument: None) -> None:
        self._extend(self._pop_mark())

    def _on_additems(self, argument: None) -> None:
        self._extend(self._pop_mark())

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is list:
            target.extend(values)
        elif type(target) is not Placeholder:
            raise ValueError("its pickle appends to what is no list")

    def _on_setitem(self, argument: None) -> None:
        self._update(self._pop(2))

    def _on_setitems(self, argument: None) -> None:
        self._update(self._pop_mark())

    def _update(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is dict:
            target.update(_as_dict(values))
        elif type(target) is not Placeholder:
            raise ValueError("its pickle sets items of what is no dict")

    # -- names and calls: nothing is looked up, nothing is called --

    def _on_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._name(module, name)

    def _on_stack_global(self, argument: None) -> None:
        module, name = self._pop(2)
        self._name(str(module), str(name))

    def _name(self, module: str, name: str) -> None:
        named = Name(module, name)
        text = str(named)
        if not (text in _ORDINARY or text == _GETATTR or text.startswith(_ORDINARY_PREFIXES)):
            self.strangers[text] = None
        self._stack.append(named)

    def _on_inst(self, argument: str) -> None:
        values = self._pop_mark()
        self._on_global(argument)
        self._stack.append(self._result(self._stack.pop(), tuple(values)))

    def _on_obj(self, argument: None) -> None:
        made_by, *values = self._pop_mark()
        self._stack.append(self._result(made_by, tuple(values)))

    def _on_newobj(self, argument: None) -> None:
        made_by, values = self._pop(2)
        self._stack.append(self._result(made_by, values))

    def _on_newobj_ex(self, argument: None) -> None:
        made_by, values, _ = self._pop(3)
        self._stack.append(self._result(made_by, values))

    def _on_reduce(self, argument: None) -> None:
        made_by, values = self._pop(2)
        self._stack.append(self._result(made_by, values))

    def _on_build(self, argument: None) -> None:
        # Attributes, as OrderedDict's _metadata in a state dict, say nothing about weights.
        self._stack.pop()

    def _result(self, made_by: Any, values: Any) -> Any:
        """What the call would have made, for the few that tensors are made of."""
        call = str(made_by) if type(made_by) is Name else type(made_by).__name__
        if call == "torch._utils._rebuild_tensor_v2":
            storage, offset, size, stride, *_ = values
            return self.make_tensor(storage, offset, size, stride)
        if call == "torch._utils._rebuild_parameter":
            return values[0]
        if call == "collections.OrderedDict" and type(values) is tuple:
            return _as_dict([part for pair in values[:1] for item in pair for part in item])
        if call == _GETATTR and not _is_schedule(values):
            self.strangers[_GETATTR] = None
        return Placeholder(call)

    def _on_binpersid(self, argument: None) -> None:
        kind, storage, key, _, length = self._stack.pop()
        if kind != "storage" or type(key) is not str or type(length) is not int:
            raise ValueError("its pickle refers to data that are no tensor's")
        self._stack.append(_Storage(key, _STORAGES[str(storage)], length))


def _as_dict(values: list[Any]) -> dict[Any, Any]:
    """Keys and values in turn; keys of kinds that could be costly to hash are replaced."""
    keys = [key if type(key) in _KEYS else Placeholder("key") for key in values[::2]]
    return dict(zip(keys, values[1::2], strict=True))


def _is_schedule(values: Any) -> bool:
    """The function that OneCycleLR stored: ``getattr(OneCycleLR, "_annealing_cos")``."""
    if type(values) is not tuple or len(values) != 2 or type(values[0]) is not Name:
        return False
    return str(values[0]) == "torch.optim.lr_scheduler.OneCycleLR" and values[1] in _SCHEDULES
