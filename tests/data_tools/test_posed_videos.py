from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hisplat_data_tools.datasets import UnusableScene
from hisplat_data_tools.datasets.posed_videos import find_video, read_clip
from tests.chunk_files import path_cameras

RATE = 25.0


def write_video(path: Path, frames: int = 24) -> Path:
    """Frame i has the gray level 10 * i."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, (64, 36))
    assert writer.isOpened()
    for i in range(frames):
        writer.write(np.full((36, 64, 3), 10 * i, np.uint8))
    writer.release()
    return path


def write_clip(path: Path, frames: list[int], url: str = "https://www.youtube.com/watch?v=abc-1"):
    """Poses of some frames of the video; returns their cameras."""
    cameras = path_cameras(len(frames))
    lines = [url]
    for i, frame in enumerate(frames):
        k = cameras.intrinsics[i]
        pose = np.linalg.inv(cameras.camera_to_world[i].double().numpy())[:3].ravel()
        first = [k[0, 0], k[1, 1], k[0, 2], k[1, 2], 0, 0]
        numbers = " ".join(f"{float(v):.9f}" for v in [*first, *pose])
        lines.append(f"{round(frame * 1e6 / RATE)} {numbers}")
    path.write_text("\n".join(lines) + "\n")
    return cameras


def levels(scene) -> list[float]:
    return [scene.photo(i).mean() / 10 for i in range(len(scene))]


def test_frames_are_those_of_the_stated_times(tmp_path: Path) -> None:
    expected = write_clip(tmp_path / "clip.txt", [0, 3, 4, 11, 23])
    video = write_video(tmp_path / "abc-1.mp4")
    clip = read_clip(tmp_path / "clip.txt")
    assert find_video(clip, tmp_path) == video
    assert clip.timestamps.tolist() == [0, 120_000, 160_000, 440_000, 920_000]
    scene = clip.scene(video, 1.0, 100.0)
    assert scene.key == "clip"
    assert levels(scene) == pytest.approx([0, 3, 4, 11, 23], abs=0.45)
    torch.testing.assert_close(
        scene.cameras.camera_to_world, expected.camera_to_world, atol=1e-6, rtol=1e-5
    )
    torch.testing.assert_close(scene.cameras.intrinsics, expected.intrinsics)


def test_times_between_two_frames_give_the_nearer_one(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.txt", [0, 1])
    text = (tmp_path / "clip.txt").read_text().replace("\n40000 ", "\n295000 ")  # frame 7.4
    (tmp_path / "clip.txt").write_text(text)
    scene = read_clip(tmp_path / "clip.txt").scene(write_video(tmp_path / "v.mp4"), 1.0, 100.0)
    assert levels(scene) == pytest.approx([0, 7], abs=0.45)


def test_video_that_ends_too_early_is_named(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.txt", [2, 30])
    scene = read_clip(tmp_path / "clip.txt").scene(write_video(tmp_path / "v.mp4"), 1.0, 100.0)
    with pytest.raises(UnusableScene, match=r"v\.mp4 ends before 1\.200 s"):
        levels(scene)


def test_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.txt", [2, 3])
    (tmp_path / "v.mp4").write_bytes(b"no video")
    with pytest.raises(UnusableScene, match=r"Cannot read the video .*v\.mp4"):
        levels(read_clip(tmp_path / "clip.txt").scene(tmp_path / "v.mp4", 1.0, 100.0))


def test_video_may_be_named_like_the_clip(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.txt", [0], url="https://youtu.be/xyz")
    clip = read_clip(tmp_path / "clip.txt")
    with pytest.raises(FileNotFoundError, match=r"xyz\.mp4, clip\.mp4"):
        find_video(clip, tmp_path)
    (tmp_path / "clip.webm").touch()
    assert find_video(clip, tmp_path).name == "clip.webm"
    (tmp_path / "xyz.mp4").touch()
    assert find_video(clip, tmp_path).name == "xyz.mp4"


def test_extracted_frames_stand_in_for_the_video(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.txt", [1, 4, 6])
    clip = read_clip(tmp_path / "clip.txt")
    folder = tmp_path / "clip"
    folder.mkdir()
    for frame in (4, 1):
        cv2.imwrite(str(folder / f"{frame * 40_000}.png"), np.full((36, 64, 3), 10 * frame))
    assert find_video(clip, tmp_path) == folder
    scene = clip.scene(folder, 1.0, 100.0)
    assert [scene.photo(i).mean() / 10 for i in (1, 0)] == [4, 1]
    with pytest.raises(UnusableScene, match=r"no frame .*clip/240000\.jpg"):
        scene.photo(2)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.replace(" 0.000000000 0.000000000 ", " 0.1 0 ", 1), "distorted"),
        (lambda t: t.replace("\n0 ", "\n90000 "), "do not increase"),
        (lambda t: t.replace(" 0.999200108 ", " nan ", 1), "no rotations"),
        (lambda t: t.replace(" 0.999200108 ", " 1.1 ", 1), "no rotations"),
        (lambda t: t.replace("\n0 ", "\nzero "), "Expected numbers"),
        (lambda t: t.replace("\n0 ", "\n0 1 "), "19 numbers|Expected numbers"),
        (lambda t: "https://x\n", "19 numbers"),
        (lambda t: "", "19 numbers"),
    ],
)
def test_malformed_poses_are_refused(tmp_path: Path, edit, message: str) -> None:
    path = tmp_path / "clip.txt"
    write_clip(path, [0, 2])
    path.write_text(edit(path.read_text()))
    with pytest.raises(UnusableScene, match=message):
        read_clip(path)


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnusableScene, match=r"clip\.txt"):
        read_clip(tmp_path / "clip.txt")
