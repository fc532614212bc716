"""Finds what there is to evaluate below a folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

POSED, STEREO = "cameras.json", "disparity.npy"


@dataclass(frozen=True)
class Folders:
    """Posed and stereo folders, in order of name, and what was left out with the reason."""

    posed: list[Path] = field(default_factory=list)
    stereo: list[Path] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def find_folders(path: Path, names: Sequence[str] = ()) -> Folders:
    """The folder itself if it holds photos to evaluate, else those of its subfolders that do.

    Args:
        path: A posed folder, a stereo folder, or a folder of such.
        names: Only the subfolders of these names; all if empty.

    Raises:
        FileNotFoundError: if there is no such folder, or nothing to evaluate in it.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"There is no folder {path}.")
    if names:
        missing = [name for name in names if not (path / name).is_dir()]
        if missing:
            raise FileNotFoundError(f"{path} has no folder named {', '.join(missing)}.")
        candidates = [path / name for name in names]
    elif (path / POSED).is_file() or (path / STEREO).is_file():
        candidates = [path]
    else:
        candidates = sorted(p for p in path.iterdir() if p.is_dir())
    found = Folders()
    for folder in candidates:
        if (folder / STEREO).is_file():
            found.stereo.append(folder)
        elif not (folder / POSED).is_file():
            found.skipped[folder.name] = f"neither {POSED} nor {STEREO}"
        elif folder != path and not names and not _names_pairs(folder / POSED):
            found.skipped[folder.name] = f"no pairs in its {POSED}"
        else:
            found.posed.append(folder)
    if not found.posed and not found.stereo:
        raise FileNotFoundError(
            f"Found nothing to evaluate in {path}: expected a folder with {POSED} (and pairs in "
            f"it) or with {STEREO}, or a folder of such."
        )
    return found


def _names_pairs(path: Path) -> bool:
    """Whether a readable file lacks pairs; unreadable ones are left to the reader to complain."""
    try:
        document = json.loads(path.read_text())
    except ValueError:
        return True
    return not isinstance(document, dict) or bool(document.get("pairs"))
