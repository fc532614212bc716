"""Photos with known cameras: two to reconstruct from, others to compare with.

A folder holds photos and a ``cameras.json`` (see ``cameras_json``) whose ``pairs`` say which two
photos are given (``left``, ``right``) and which ones are the ``targets``.
"""

from pathlib import Path

import torch

from hisplat_models.cameras import Cameras
from hisplat_models.example import Example

from ..cameras_json import CameraPair, ImageCamera, read_cameras, to_cameras
from ..images import Photo, load_photo, to_tensor, working_size

CAMERAS_FILE = "cameras.json"


class PosedFolderDataset:
    """One Example per pair of a posed folder.

    Context photos have their long side near ``long_side`` and both sides a multiple of
    ``size_multiple``, by a slight stretch that the normalised intrinsics carry along exactly.
    Target photos have exactly the long side ``target_long_side`` (by default ``long_side``) and
    their own proportions; those of one pair are brought to the size of the first.

    Raises:
        FileNotFoundError: if the folder has no cameras.json or a photo it names is missing.
        ValueError: if cameras.json cannot be understood, or has no pair with targets and a range
            of depth.
    """

    def __init__(
        self,
        path: Path | str,
        long_side: int = 384,
        size_multiple: int = 16,
        target_long_side: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.scene = self.path.resolve().name
        self.long_side = long_side
        self.size_multiple = size_multiple
        self.target_long_side = target_long_side or long_side
        self._file = read_cameras(self.path / CAMERAS_FILE)
        self.pairs = tuple(pair for pair in self._file.pairs if pair.targets)
        if not self.pairs:
            raise ValueError(
                f"{self._file.path} has no pairs with targets: expected a list of "
                '{"left": file, "right": file, "targets": [file, ...]} under "pairs".'
            )
        for pair in self.pairs:
            self._depth_range(pair)
            for name in (pair.left, pair.right, *pair.targets):
                if not (self.path / name).is_file():
                    raise FileNotFoundError(f"The folder {self.path} has no photo {name}.")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Example:
        """The photos and cameras of one pair, with the pair's near and far.

        Raises:
            ValueError: if a photo cannot be read, or its proportions differ from its camera's.
        """
        pair = self.pairs[index]
        context = [self.photo(name) for name in (pair.left, pair.right)]
        targets = [self.photo(name) for name in pair.targets]
        size = working_size(context[0].width, context[0].height, self.long_side, self.size_multiple)
        target_size = fitted_size(targets[0], self.target_long_side)
        near, far = self._depth_range(pair)
        return Example(
            name=f"{self.scene}/{pair_name(pair)}",
            context_images=torch.stack([to_tensor(photo, size) for photo in context]),
            context_cameras=self._cameras((pair.left, pair.right), context, near, far),
            target_images=torch.stack([to_tensor(photo, target_size) for photo in targets]),
            target_cameras=self._cameras(pair.targets, targets, near, far),
        )

    def photo(self, name: str) -> Photo:
        """A photo of the folder as it is stored."""
        return load_photo(self.path / name)

    def camera(self, name: str) -> ImageCamera:
        """What the file says about a photo's camera."""
        return self._file.find(name)

    def _cameras(
        self, names: tuple[str, ...], photos: list[Photo], near: float, far: float
    ) -> Cameras:
        views = [
            self.camera(name).at_size(photo.width, photo.height)
            for name, photo in zip(names, photos, strict=True)
        ]
        return to_cameras(views, near, far)

    def _depth_range(self, pair: CameraPair) -> tuple[float, float]:
        found = self._file.depth_range(pair.left, pair.right)
        if found is None or not 0 < found[0] < found[1]:
            raise ValueError(
                f"Expected 0 < near < far for the pair {pair.left}, {pair.right} (or the whole "
                f"scene) in {self._file.path}, got {found}."
            )
        return found


def pair_name(pair: CameraPair) -> str:
    """Both photos without their endings, e.g. "003-006"."""
    return f"{Path(pair.left).stem}-{Path(pair.right).stem}"


def fitted_size(photo: Photo, long_side: int) -> tuple[int, int]:
    """(height, width) in the photo's proportions with this long side, each at least 1."""
    scale = long_side / max(photo.height, photo.width)
    return max(1, round(photo.height * scale)), max(1, round(photo.width * scale))
