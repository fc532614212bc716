from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hisplat_data_tools.video import ENCODERS, write_video

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")

COLORS = [(200, 40, 40), (40, 180, 60), (50, 60, 220), (128, 128, 128)]


def frames(count: int = 8, size: tuple[int, int] = (47, 63)) -> Iterator[np.ndarray]:
    for i in range(count):
        yield np.full((*size, 3), COLORS[i % 4], dtype=np.uint8)


def decoded(path: Path) -> list[np.ndarray]:
    if path.suffix == ".gif":
        with Image.open(path) as image:
            pictures = []
            for i in range(getattr(image, "n_frames", 1)):
                image.seek(i)
                pictures.append(np.asarray(image.convert("RGB")))
            return pictures
    stream, pictures = cv2.VideoCapture(str(path)), []
    while (read := stream.read())[0]:
        pictures.append(read[1][..., ::-1])
    return pictures


@pytest.mark.parametrize("ending", ENCODERS)
def test_frames_come_back_in_order_with_their_colors(tmp_path: Path, ending: str) -> None:
    assert write_video(tmp_path / f"v{ending}", frames(), 12.0) == 8
    pictures = decoded(tmp_path / f"v{ending}")
    assert len(pictures) == 8
    for picture, color in zip(pictures, COLORS * 2, strict=True):
        assert np.abs(picture[:47, :63].astype(int) - color).max() <= 6
    assert [p.name for p in tmp_path.iterdir()] == [f"v{ending}"]


def test_odd_sizes_are_filled_by_their_edge(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", frames(), 10.0)
    assert decoded(tmp_path / "v.mp4")[0].shape == (48, 64, 3)
    write_video(tmp_path / "v.gif", frames(), 10.0)
    assert decoded(tmp_path / "v.gif")[0].shape == (47, 63, 3)


def test_a_video_plays_at_the_speed_asked_for(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", frames(12), 6.0)
    stream = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    assert stream.get(cv2.CAP_PROP_FPS) == pytest.approx(6)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("ending", ENCODERS)
def test_an_interrupted_video_leaves_nothing(
    tmp_path: Path, ending: str, error: type[BaseException]
) -> None:
    (tmp_path / f"v{ending}").write_text("an older video")

    def interrupted() -> Iterator[np.ndarray]:
        yield from frames(3)
        raise error

    with pytest.raises(error):
        write_video(tmp_path / f"v{ending}", interrupted(), 10.0)
    assert [p.name for p in tmp_path.iterdir()] == [f"v{ending}"]
    assert (tmp_path / f"v{ending}").read_text() == "an older video"


def test_an_encoder_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS, ".mp4", ["-c:v", "no_such_codec", "-f", "mp4"])
    with pytest.raises(OSError, match="no_such_codec"):
        write_video(tmp_path / "v.mp4", frames(2000), 10.0)
    assert list(tmp_path.iterdir()) == []


def test_frames_are_asked_for_one_by_one(tmp_path: Path) -> None:
    """What waits between us and the encoder is bounded: not the whole video."""
    given = []

    def watched() -> Iterator[np.ndarray]:
        for i, frame in enumerate(frames(5)):
            given.append(i)
            yield frame

    stream = watched()
    assert given == []
    write_video(tmp_path / "v.gif", stream, 10.0)
    assert given == [0, 1, 2, 3, 4]


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected \.mp4, \.webm, \.gif"):
        write_video(tmp_path / "v.avi", frames(), 10.0)
    with pytest.raises(ValueError, match="without frames"):
        write_video(tmp_path / "v.mp4", frames(0), 10.0)
    with pytest.raises(ValueError, match="frames per second"):
        write_video(tmp_path / "v.mp4", frames(), 0.0)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_video(tmp_path / "nowhere" / "v.mp4", frames(), 10.0)
    sizes = [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)]
    with pytest.raises(ValueError, match="Expected frames of"):
        write_video(tmp_path / "v.mp4", sizes, 10.0)
    assert list(tmp_path.iterdir()) == []
