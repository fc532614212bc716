"""Videos with known poses as RealEstate10K ships them: a text file per clip, the video beside it.

In place of the video there may be a folder named like the text file, with the frames that someone
extracted already, each named after its time: ``<clip>/<microseconds>.jpg`` or ``.png``.

The first line of the text is the video's URL. Every further line is one frame: its time in
microseconds, then fx, fy, cx, cy (divided by width and height), k1, k2 (lens distortion, which
must be zero), then the world-to-camera matrix, 3x4 row by row.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from hisplat_models.cameras import Cameras

from ..images import PhotoError, load_photo
from .posed_scene import PosedScene, UnusableScene

FRAME_ENDINGS = (".jpg", ".jpeg", ".png")
VIDEO_ENDINGS = (".mp4", ".webm", ".mkv", ".mov", ".avi")
_NUMBERS_PER_LINE = 19


@dataclass(frozen=True)
class PosedClip:
    """A clip of a video.

    Attributes:
        path: The text file.
        url: Of the video.
        timestamps: Of the frames, microseconds from the start of the video.
        camera_to_world: Rigid poses, OpenCV axes.
        intrinsics: Normalised.
    """

    path: Path
    url: str
    timestamps: Int64[Tensor, " frame"]
    camera_to_world: Float[Tensor, "frame 4 4"]
    intrinsics: Float[Tensor, "frame 3 3"]

    @property
    def key(self) -> str:
        """Its name: that of the file."""
        return self.path.stem

    def scene(self, video: Path, near: float, far: float) -> PosedScene:
        """The clip with the frames of a video, or of a folder of extracted frames.

        Frames of a video must be asked for in order of time.
        """
        frames = len(self.timestamps)
        cameras = Cameras(
            self.camera_to_world,
            self.intrinsics,
            torch.full((frames,), near),
            torch.full((frames,), far),
        )
        times = self.timestamps.tolist()
        if video.is_dir():
            return PosedScene(self.key, cameras, lambda frame: _extracted(video, times[frame]))
        return PosedScene(self.key, cameras, _FramesInOrder(video, times).frame)


def read_clip(path: Path | str) -> PosedClip:
    """The poses of a clip.

    Raises:
        FileNotFoundError: if there is no such file.
        UnusableScene: if it is laid out differently, the lens distorts, times do not increase, or
            poses are not rigid.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [line.split() for line in lines[1:] if line.strip()]
        times = [int(row[0]) for row in rows]
        numbers = np.array([[float(v) for v in row[1:]] for row in rows], dtype=np.float64)
    except ValueError as error:
        raise UnusableScene(f"Expected numbers in {path}: {error}.") from error
    if not rows or numbers.shape[1:] != (_NUMBERS_PER_LINE - 1,):
        raise UnusableScene(
            f"Expected a URL and then lines of {_NUMBERS_PER_LINE} numbers (time, fx, fy, cx, cy, "
            f"k1, k2, pose) in {path}."
        )
    url = lines[0].strip()
    if np.abs(numbers[:, 4:6]).max() > 1e-6:
        raise UnusableScene(f"{path} describes distorted frames (k1 or k2 is not 0).")
    if any(later <= earlier for earlier, later in pairwise(times)):
        raise UnusableScene(f"The times in {path} do not increase.")
    world_to_camera = np.tile(np.eye(4), (len(rows), 1, 1))
    world_to_camera[:, :3] = numbers[:, 6:].reshape(-1, 3, 4)
    rotation = world_to_camera[:, :3, :3]
    if not np.allclose(rotation @ rotation.transpose(0, 2, 1), np.eye(3), atol=1e-3):
        raise UnusableScene(f"{path} has poses that are no rotations.")
    intrinsics = np.tile(np.eye(3), (len(rows), 1, 1))
    intrinsics[:, [0, 1], [0, 1]] = numbers[:, :2]
    intrinsics[:, [0, 1], [2, 2]] = numbers[:, 2:4]
    return PosedClip(
        path,
        url,
        torch.tensor(times),
        torch.from_numpy(np.linalg.inv(world_to_camera)).float(),
        torch.from_numpy(intrinsics).float(),
    )


def find_video(clip: PosedClip, folder: Path) -> Path:
    """The video of a clip: named after the video's id in the URL, or like the text file.

    Or the folder of its extracted frames, named like the text file.

    Raises:
        FileNotFoundError: if there is none of them.
    """
    if (folder / clip.key).is_dir():
        return folder / clip.key
    url = urlparse(clip.url)
    names = [*parse_qs(url.query).get("v", []), Path(url.path).stem, clip.key]
    for name in names:
        for ending in VIDEO_ENDINGS if name else ():
            if (folder / f"{name}{ending}").is_file():
                return folder / f"{name}{ending}"
    tried = ", ".join(dict.fromkeys(f"{name}.mp4" for name in names if name))
    raise FileNotFoundError(
        f"The video of {clip.path} is not in {folder}; looked for a folder {clip.key}, {tried}, …."
    )


def _extracted(folder: Path, time: int) -> UInt8[np.ndarray, "height width 3"]:
    for ending in FRAME_ENDINGS:
        path = folder / f"{time}{ending}"
        if path.is_file():
            try:
                return load_photo(path).pixels
            except PhotoError as error:
                raise UnusableScene(str(error)) from error
    raise UnusableScene(f"There is no frame {folder / str(time)}.jpg.")


class _FramesInOrder:
    """Reads a video once, giving the frames nearest to increasing times."""

    def __init__(self, video: Path, timestamps: Sequence[int]) -> None:
        self._video, self._timestamps = video, timestamps
        self._frames = self._read()
        self._next = 0

    def frame(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """The next frame.

        Raises:
            UnusableScene: if the video ends before it, or cannot be read.
        """
        if index != self._next:
            raise ValueError(f"Frames are read in order: expected {self._next}, got {index}.")
        self._next += 1
        return next(self._frames)

    def _read(self) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        capture = cv2.VideoCapture(str(self._video))
        try:
            rate = capture.get(cv2.CAP_PROP_FPS)
            if not capture.isOpened() or not (math.isfinite(rate) and rate > 0):
                raise UnusableScene(f"Cannot read the video {self._video}.")
            half_frame = 500.0 / rate
            for time in self._timestamps:
                wanted = time / 1000
                while True:
                    if not capture.grab():
                        raise UnusableScene(
                            f"The video {self._video} ends before {time / 1e6:.3f} s, where a "
                            "frame with a known pose should be."
                        )
                    shown = capture.get(cv2.CAP_PROP_POS_MSEC)
                    if shown >= wanted - half_frame:
                        break
                if shown > wanted + 3 * half_frame:
                    raise UnusableScene(
                        f"The video {self._video} has no frame near {time / 1e6:.3f} s."
                    )
                read, pixels = capture.retrieve()
                if not read:
                    raise UnusableScene(
                        f"A frame of the video {self._video} at {time / 1e6:.3f} s is damaged."
                    )
                yield np.ascontiguousarray(pixels[..., ::-1])
        finally:
            capture.release()
