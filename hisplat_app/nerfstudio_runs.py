"""Scenes that nerfstudio trained with its Gaussian methods, out of the folders of its runs.

``config.yml`` is YAML that names classes for a loader to call, and checkpoints are pickles. Of the
former only the name of one folder is looked for in the text; the latter are read without running
what they may hold.
"""

import re
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hisplat_models.gaussians import SH_C0, Gaussians
from hisplat_models.pickled_tensors import read_pickled

CONFIG_START = "!!python/object:nerfstudio."
LONGEST_CONFIG = 1 << 20
DEFAULT_FOLDER = "nerfstudio_models"
_FOLDER = re.compile(
    r"^relative_model_dir: !!python/object/apply:pathlib\.\w+\n((?:- .*\n)+)", re.M
)
_CHECKPOINT = re.compile(r"step-(\d+)\.ckpt")
_PREFIX = "_model.gauss_params."


class RunError(ValueError):
    """A folder that holds no scene of nerfstudio; says what was expected."""


def read_run(config: Path) -> Gaussians:
    """The scene of a run's last checkpoint, in nerfstudio's own turned and scaled world.

    Args:
        config: The ``config.yml`` of a run of ``splatfacto``, ``hisplat`` or a method like them.

    Raises:
        FileNotFoundError: if it is not there.
        RunError: if it is none of nerfstudio's, or the run has no checkpoint with Gaussians.
        CheckpointError: if the checkpoint is damaged or names what may run code.
    """
    checkpoint = last_checkpoint(config)
    content = read_pickled(checkpoint)
    state = content.get("pipeline") if isinstance(content, dict) else None
    if not isinstance(state, dict) or f"{_PREFIX}means" not in state:
        raise RunError(
            f"{checkpoint} holds no Gaussians: expected a run of splatfacto, hisplat or a method "
            "like them."
        )
    return _gaussians(state, checkpoint)


def last_checkpoint(config: Path) -> Path:
    """The checkpoint of a run with most iterations.

    Raises:
        FileNotFoundError: if there is no such ``config.yml``.
        RunError: if it is none of nerfstudio's, or has no checkpoint beside it.
    """
    if not config.is_file():
        raise FileNotFoundError(f"There is no file {config}; expected the config.yml of a run.")
    with config.open("rb") as file:
        text = file.read(LONGEST_CONFIG).decode("utf-8", errors="replace")
    if not text.startswith(CONFIG_START):
        raise RunError(f"{config} is no config.yml of nerfstudio.")
    stated = _FOLDER.search(text)
    parts = re.findall(r"^- (.+)$", stated[1], re.M) if stated else [DEFAULT_FOLDER]
    if any(part in ("/", "..") or "\\" in part for part in parts):
        raise RunError(f"{config} keeps its checkpoints in {'/'.join(parts)}, outside the run.")
    folder = config.parent.joinpath(*parts)
    numbered = {
        int(match[1]): path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := _CHECKPOINT.fullmatch(path.name))
    }
    if not numbered:
        raise RunError(f"The run of {config} has no checkpoint in {folder}.")
    return numbered[max(numbered)]


def _gaussians(state: dict[str, Tensor], checkpoint: Path) -> Gaussians:
    count = len(state[f"{_PREFIX}means"])

    def values(name: str, *shape: int) -> Tensor:
        found = state.get(_PREFIX + name)
        expected = (count, *shape)
        if not isinstance(found, Tensor) or not found.is_floating_point():
            raise RunError(f"{checkpoint} has no {name}.")
        if found.dim() != len(expected) or any(
            side not in (-1, there) for side, there in zip(expected, found.shape, strict=True)
        ):
            raise RunError(f"{checkpoint}: expected {name} of shape {expected}, got {found.shape}.")
        return found.float()

    constant, rest = values("features_dc", 3), values("features_rest", -1, 3)
    if not rest.shape[1]:
        # Without bands that depend on the view, splatfacto's features are logits of colours.
        constant = (torch.sigmoid(constant) - 0.5) / SH_C0
    return Gaussians(
        means=values("means", 3).clone(),
        scales=values("scales", 3).exp(),
        quaternions_wxyz=normalize(values("quats", 4), dim=-1),
        opacities=torch.sigmoid(values("opacities", 1))[:, 0],
        harmonics=torch.cat([constant[:, None], rest], dim=1),
        level=torch.zeros(count, dtype=torch.long),
    )
