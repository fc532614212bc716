"""Frames to a video file, one after another: .mp4 (H.264), .webm (VP9) or .gif."""

import os
import subprocess
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import UInt8

_RGB_TO_VIDEO = "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"
_TAGS = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "iec61966-2-1"]

ENCODERS: dict[str, list[str]] = {
    ".mp4": [
        *("-vf", _RGB_TO_VIDEO, *_TAGS, "-color_range", "tv"),
        # As good and as small as "fast" with 18, in half the time.
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", "17", "-movflags", "+faststart"),
        *("-f", "mp4"),
    ],
    ".webm": [
        *("-vf", _RGB_TO_VIDEO, *_TAGS, "-color_range", "tv"),
        # "realtime" makes files a sixth larger in less than half the time.
        *("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "5", "-row-mt", "1"),
        *("-crf", "24", "-b:v", "0"),
        *("-f", "webm"),
    ],
    # A palette for each frame: the best for one picture, and frames need not be kept for it.
    ".gif": [
        *(
            "-vf",
            "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1:dither=bayer:bayer_scale=3",
        ),
        # Frames whole: told as differences, they mix up colours of changing palettes.
        *("-gifflags", "-offsetting-transdiff", "-f", "gif"),
    ],
}
"""What ffmpeg is told, by file ending."""

Frame = UInt8[np.ndarray, "height width 3"]


def write_video(path: Path | str, frames: Iterable[Frame], frames_per_second: float) -> int:
    """Writes frames as they come; the file appears only once it is complete.

    H.264 and VP9 need even sizes: an odd row or column is repeated at the edge.

    Args:
        path: Ends in .mp4, .webm or .gif.
        frames: sRGB pictures of one size; only one at a time is kept.
        frames_per_second: How fast they are shown.

    Returns:
        The number of frames.

    Raises:
        ValueError: for another ending, no frames, frames of different sizes, or a speed that is
            not positive.
        FileNotFoundError: if the folder does not exist.
        OSError: if the video cannot be encoded.
    """
    path = Path(path)
    check_video(path, frames_per_second)
    stream = iter(frames)
    first = next(stream, None)
    if first is None:
        raise ValueError(f"Cannot write {path} without frames.")
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        count = _encode(draft, path.suffix.lower(), first, stream, frames_per_second)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return count


def check_video(path: Path, frames_per_second: float) -> None:
    """Finds out before the work what would stop the writing.

    Raises:
        ValueError: for an unknown ending or a speed that is not positive.
        FileNotFoundError: if the folder does not exist.
    """
    if path.suffix.lower() not in ENCODERS:
        raise ValueError(f"Cannot tell the format of {path}: expected {', '.join(ENCODERS)}.")
    if not 0 < frames_per_second <= 1000:
        raise ValueError(f"Expected 0 to 1000 frames per second, got {frames_per_second}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"Cannot write {path}: the folder {path.parent} does not exist.")


def _encode(
    draft: Path, ending: str, first: Frame, others: Iterator[Frame], frames_per_second: float
) -> int:
    import imageio_ffmpeg

    first = _fitting(first, ending)
    height, width = first.shape[:2]
    command = [
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"),
        *("-r", f"{frames_per_second:g}", "-i", "pipe:0", *ENCODERS[ending], str(draft)),
    ]
    with tempfile.TemporaryFile() as complaints:
        # A session of its own: Ctrl+C reaches us alone, and we end the encoder in order.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=complaints, start_new_session=True
        )
        assert process.stdin is not None
        try:
            count = _feed(process.stdin, first, others, ending)
            status = process.wait()
        except BrokenPipeError:
            status, count = process.wait() or 1, 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if status:
            complaints.seek(0)
            reason = complaints.read().decode(errors="replace").strip()[-400:]
            raise OSError(f"The video could not be encoded: {reason or f'status {status}'}")
    return count


def _feed(pipe: IO[bytes], first: Frame, others: Iterator[Frame], ending: str) -> int:
    count = 1
    with pipe:
        pipe.write(first.tobytes())
        for frame in others:
            frame = _fitting(frame, ending)
            if frame.shape != first.shape:
                raise ValueError(f"Expected frames of {first.shape}, got one of {frame.shape}.")
            pipe.write(frame.tobytes())
            count += 1
    return count


def _fitting(frame: Frame, ending: str) -> UInt8[np.ndarray, "even_height even_width 3"]:
    if ending == ".gif":
        return frame
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
