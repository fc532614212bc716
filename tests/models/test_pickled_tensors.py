"""Files of ``torch.save`` are read without running anything that they name."""

import io
import pickle
import struct
import sys
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hisplat_models.checkpoints import CheckpointError
from hisplat_models.pickled_tensors import Placeholder, follow_pickle, read_pickled

SCHEDULE = torch.optim.lr_scheduler.OneCycleLR
CANARY = "hisplat_test_canary"


def archive(path: Path, pickled: bytes, numbers: bytes = b"", compression: int = 0) -> Path:
    """A file as ``torch.save`` lays it out, around any pickle."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/byteorder", "little")
        file.writestr("archive/data/0", numbers)
        file.writestr("archive/version", "3\n")
    return path


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def call(module: str, name: str, arguments: bytes) -> bytes:
    return f"c{module}\n{name}\n".encode() + arguments + b"R"


def tensor_call(storage_length: int, offset: int, size: bytes, stride: bytes) -> bytes:
    """The pickle of a dict with one tensor over the storage "0"."""
    number = struct.pack("<i", storage_length)
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    storage += b"J" + number + b"tQ"
    arguments = b"(" + storage + b"J" + struct.pack("<i", offset) + size + stride + b"\x89}t"
    rebuilt = call("torch._utils", "_rebuild_tensor_v2", arguments)
    return b"\x80\x02}" + text("w") + rebuilt + b"s."


def small(*numbers: int) -> bytes:
    return b"(" + b"".join(b"J" + struct.pack("<i", n) for n in numbers) + b"t"


# ---- What training states hold ----------------------------------------------------------------


def training_state() -> dict[str, Any]:
    base = torch.arange(24.0).view(4, 6)
    linear = nn.Linear(3, 2)
    return {
        "state_dict": linear.state_dict(),  # an OrderedDict with attributes
        "parameter": linear.weight,
        "view": base[1:3, ::2],
        "transposed": base.T,
        "scalar": torch.tensor(7),
        "kinds": [torch.ones(2, dtype=d) for d in (torch.float16, torch.bfloat16, torch.bool)],
        "empty": torch.zeros(0, 3),
        "plain": {"a": (1, 2.5, None, True, "text", -(2**40)), 3: [[], {}, ()]},
        "ordered": OrderedDict([("x", 1)]),
    }


def assert_same(a: Any, b: Any):
    if isinstance(b, torch.Tensor):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert torch.equal(a, b)
    elif isinstance(b, dict):
        assert list(a) == list(b)
        for key in b:
            assert_same(a[key], b[key])
    elif isinstance(b, list | tuple):
        assert type(a) is type(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b
        assert type(a) is type(b)


def test_a_followed_pickle_holds_what_torch_loads(tmp_path: Path):
    torch.save(training_state(), tmp_path / "a.ckpt")
    followed, strangers = follow_pickle(tmp_path / "a.ckpt")
    loaded = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert_same(followed, loaded)
    assert strangers == ()


def test_tensors_of_one_storage_still_share_their_file(tmp_path: Path):
    base = torch.arange(6.0)
    torch.save({"a": base[:3], "b": base[3:]}, tmp_path / "a.ckpt")
    followed, _ = follow_pickle(tmp_path / "a.ckpt")
    assert followed["b"].data_ptr() - followed["a"].data_ptr() == 12


def test_schedule_of_earlier_pytorch_does_not_get_a_checkpoint_refused(tmp_path: Path):
    weight = torch.rand(2, 3)
    torch.save(
        {"w": weight, "schedule": {"anneal_func": SCHEDULE._annealing_cos}}, tmp_path / "a.ckpt"
    )
    with pytest.raises(pickle.UnpicklingError, match="getattr"):  # why following is needed
        torch.load(tmp_path / "a.ckpt", weights_only=True)
    read = read_pickled(tmp_path / "a.ckpt")
    assert torch.equal(read["w"], weight)
    assert isinstance(read["schedule"]["anneal_func"], Placeholder)


def test_ordinary_objects_become_placeholders(tmp_path: Path):
    state = {"folder": Path("/x"), "counts": Counter("aab"), "names": {"a"}, "w": torch.ones(2)}
    torch.save(state, tmp_path / "a.ckpt")
    read = read_pickled(tmp_path / "a.ckpt")
    assert isinstance(read["folder"], Placeholder)
    assert torch.equal(read["w"], torch.ones(2))


def test_numbers_that_are_not_aligned_are_read(tmp_path: Path):
    for padding in ("", "a", "ab", "abc"):
        path = archive(tmp_path / "a.ckpt", b"")
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", tensor_call(2, 0, small(2), small(1)))
            file.writestr(f"archive/{padding}", "")
            file.writestr("archive/data/0", struct.pack("<2f", 1.5, -2.0))
        assert follow_pickle(path)[0]["w"].tolist() == [1.5, -2.0]


# ---- What would run code ------------------------------------------------------------------------


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that exists once the module ``CANARY`` is imported, or something in it is called."""
    file = tmp_path / "ran"
    (tmp_path / f"{CANARY}.py").write_text(
        f"open({str(file)!r}, 'w').close()\n"
        "def act(*args): open(FILE, 'w').close()\n"
        "class Thing:\n"
        "    def __new__(cls, *args): act(); return object.__new__(cls)\n"
        "    def __setstate__(self, state): act()\n"
        "    def append(self, item): act()\n".replace("FILE", repr(str(file)))
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, CANARY, raising=False)
    return file


ATTACKS = {
    "reduce": b"\x80\x02" + call(CANARY, "act", b")") + b".",
    "import alone": f"\x80\x02c{CANARY}\nact\n.".encode("latin-1"),
    "newobj": f"\x80\x02c{CANARY}\nThing\n)\x81.".encode("latin-1"),
    "newobj_ex": b"\x80\x04" + f"c{CANARY}\nThing\n".encode() + b")}\x92.",
    "build": f"\x80\x02c{CANARY}\nThing\n)\x81}}b.".encode("latin-1"),
    "append": f"\x80\x02c{CANARY}\nThing\n)\x81Na.".encode("latin-1"),
    "inst": f"(i{CANARY}\nact\n.".encode(),
    "obj": b"(" + f"c{CANARY}\nact\n".encode() + b"o.",
    "stack_global": b"\x80\x04" + text(CANARY) + text("act") + b"\x93)R.",
    "by getattr": b"\x80\x02"
    + call(
        "builtins",
        "getattr",
        call("builtins", "__import__", text(CANARY) + b"\x85") + text("act") + b"\x86",
    )
    + b")R.",
    "in a state dict": b"\x80\x02}"
    + text("state_dict")
    + b"}"
    + text("encoder.w")
    + call(CANARY, "act", b")")
    + b"ss.",
    "as a tensor's storage": b"\x80\x02"
    + call("torch._utils", "_rebuild_parameter", b"(" + call(CANARY, "act", b")") + b"\x89}t")
    + b".",
    "as a key": b"\x80\x02}" + call(CANARY, "act", b")") + b"Ns.",
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused_and_nothing_runs(attack: str, tmp_path: Path, canary: Path):
    path = archive(tmp_path / "evil.ckpt", ATTACKS[attack])
    with pytest.raises(CheckpointError, match="is refused: it names") as refusal:
        read_pickled(path)
    assert CANARY in str(refusal.value) or "getattr" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    read_pickled(path, tensors_only=True)
    assert CANARY not in sys.modules
    assert not canary.exists()


@pytest.mark.parametrize("attack", set(ATTACKS) - {"as a tensor's storage"})
def test_the_same_attacks_work_on_a_pickle_that_is_run(attack: str, canary: Path):
    try:
        pickle.loads(ATTACKS[attack])
    finally:
        sys.modules.pop(CANARY, None)
    assert canary.exists()


def test_getattr_is_only_let_pass_for_the_schedule(tmp_path: Path):
    arguments = f"c{SCHEDULE.__module__}\nOneCycleLR\n".encode() + text("__init__") + b"\x86"
    path = archive(
        tmp_path / "a.ckpt", b"\x80\x02" + call("__builtin__", "getattr", arguments) + b"."
    )
    with pytest.raises(CheckpointError, match=r"builtins\.getattr"):
        read_pickled(path)


def test_refusals_carry_no_characters_that_steer_a_terminal(tmp_path: Path):
    path = archive(tmp_path / "a.ckpt", b"cos\n\x1b]0;owned\x07\x1b[2J\n.")
    with pytest.raises(CheckpointError) as refusal:
        read_pickled(path)
    assert str(refusal.value).isprintable()


def test_real_objects_with_reduce_are_refused(tmp_path: Path):
    class Evil:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    torch.save({"state_dict": {"w": torch.ones(2)}, "callbacks": Evil()}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"builtins\.exec"):
        read_pickled(tmp_path / "a.ckpt")
    assert read_pickled(tmp_path / "a.ckpt", True)["state_dict"]["w"].tolist() == [1, 1]
    assert not (tmp_path / "ran").exists()


# ---- What is damaged ----------------------------------------------------------------------------

FLOATS = struct.pack("<4f", 1, 2, 3, 4)
DAMAGED = {
    "takes from an empty stack": b"\x80\x02\x85.",
    "has no end": b"\x80\x02N",
    "unmarked": b"\x80\x02t.",
    "extension codes": b"\x80\x02\x82\x01.",
    "unknown memo": b"\x80\x02h\x05.",
    "appends to a dict": b"\x80\x02}Na.",
    "sets items of a list": b"\x80\x02]NNs.",
    "garbage": b"\xff\xfe\xfd",
    "empty": b"",
    "storage longer than its record": tensor_call(5, 0, small(5), small(1)),
    "negative storage": tensor_call(-1, 0, small(1), small(1)),
    "view beyond the storage": tensor_call(4, 2, small(4), small(1)),
    "strides beyond the storage": tensor_call(4, 0, small(2, 2), small(1000, 1)),
    "negative offset": tensor_call(4, -1, small(2), small(1)),
    "negative size": tensor_call(4, 0, small(-2), small(1)),
    "no storage": b"\x80\x02" + call("torch._utils", "_rebuild_tensor_v2", small(1, 2)) + b".",
    "no such record": tensor_call(4, 0, small(4), small(1)).replace(text("0"), text("7")),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_files_are_refused(damage: str, tmp_path: Path):
    path = archive(tmp_path / "broken.ckpt", DAMAGED[damage], FLOATS)
    with pytest.raises(CheckpointError, match=r"broken\.ckpt"):
        follow_pickle(path)


def test_files_that_neither_reader_takes_are_refused_in_one_line(tmp_path: Path):
    path = archive(tmp_path / "broken.ckpt", DAMAGED["view beyond the storage"], FLOATS)
    with pytest.raises(CheckpointError, match=r"broken\.ckpt.*reaches beyond") as refusal:
        read_pickled(path)
    assert "\n" not in str(refusal.value)


def test_the_tensor_of_these_damages_is_read_when_whole(tmp_path: Path):
    path = archive(tmp_path / "a.ckpt", tensor_call(4, 0, small(2, 2), small(2, 1)), FLOATS)
    assert read_pickled(path)["w"].tolist() == [[1, 2], [3, 4]]
    assert follow_pickle(path)[0]["w"].tolist() == [[1, 2], [3, 4]]


def test_deeply_nested_keys_cost_nothing(tmp_path: Path):
    path = archive(tmp_path / "a.ckpt", b"\x80\x02}N" + b"\x85" * 20_000 + b"Ns.")
    followed, _ = follow_pickle(path)
    (key,) = followed
    assert isinstance(key, Placeholder)


@pytest.mark.parametrize("keep", [0, 3, 100, -200, -10])
def test_cut_off_files_are_refused(keep: int, tmp_path: Path):
    buffer = io.BytesIO()
    torch.save(training_state(), buffer)
    (tmp_path / "cut.ckpt").write_bytes(buffer.getvalue()[:keep])
    with pytest.raises(CheckpointError, match=r"cut\.ckpt"):
        read_pickled(tmp_path / "cut.ckpt")


def test_compressed_archives_are_refused_before_they_grow(tmp_path: Path):
    path = archive(tmp_path / "bomb.ckpt", b"\0" * 2**24, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=r"bomb\.ckpt is not a checkpoint"):
        read_pickled(path)


def test_formats_before_pytorch_1_6_are_refused(tmp_path: Path):
    torch.save({"w": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"PyTorch 1\.6"):
        read_pickled(tmp_path / "old.pth")


def test_missing_files_are_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"nowhere\.ckpt"):
        read_pickled(tmp_path / "nowhere.ckpt")
