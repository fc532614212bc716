"""Scores of scenes as lines of JSON that appear one by one and outlive an interruption.

The first line says what was measured and how (the conditions); each further line is one scene. A
rerun under the same conditions goes on where the file ends.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hisplat_data_tools.atomic_write import write_atomically


@dataclass(frozen=True)
class SceneScore:
    """What one scene gave; lists hold one value per target view.

    Attributes:
        scene: Its name.
        context: Frames it was reconstructed from.
        target: Frames that renders were compared with.
        psnr: dB, render clipped to [0, 1].
        ssim: At most 1.
        lpips: 0 for equal images; None if it was not computed.
        encoder_seconds: From photos to Gaussians.
        decoder_seconds: From Gaussians to one target view, mean over the views.
        gaussians: How many.
        peak_memory_mib: While it was reconstructed and drawn, of the process (on a GPU: of the
            tensors there); None where the system does not tell.
    """

    scene: str
    context: list[int]
    target: list[int]
    psnr: list[float]
    ssim: list[float]
    lpips: list[float] | None
    encoder_seconds: float
    decoder_seconds: float
    gaussians: int
    peak_memory_mib: float | None


class SceneLog:
    """The lines of one evaluation.

    Args:
        path: The file; written if there is none.
        conditions: Plain JSON values that must be the same for all lines of the file.
        restart: Begin a new file even if there is one.

    Raises:
        ValueError: if the file was written under other conditions, or is none of ours.
        FileNotFoundError: if its folder does not exist.
    """

    def __init__(self, path: Path, conditions: Mapping[str, Any], restart: bool = False) -> None:
        self.path = path
        self.scores: dict[str, SceneScore] = {}
        if restart or not path.exists():
            write_atomically(path, _line({"conditions": dict(conditions)}))
        else:
            self._resume(conditions)

    def append(self, score: SceneScore) -> None:
        """Adds a scene; it is on disk when this returns."""
        with open(self.path, "ab") as file:
            file.write(_line(asdict(score)))
            file.flush()
            os.fsync(file.fileno())
        self.scores[score.scene] = score

    def _resume(self, conditions: Mapping[str, Any]) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            head, *rows = [json.loads(line) for line in whole.splitlines()]
            written = dict(head["conditions"])
            scores = [SceneScore(**row) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.path} is not the log of an evaluation ({error!r}); remove it, or name "
                "another --output."
            ) from error
        differences = _differences(written, dict(conditions))
        if differences:
            raise ValueError(
                f"{self.path} holds {len(scores)} scenes measured otherwise: {differences}. Name "
                "another --output, or pass --restart to measure them anew."
            )
        if whole != content:  # the last line was cut off in the middle of writing
            os.truncate(self.path, len(whole))
        self.scores = {score.scene: score for score in scores}


def _differences(written: dict[str, Any], wanted: dict[str, Any]) -> str:
    names = [k for k in {**written, **wanted} if written.get(k) != wanted.get(k)]
    return ", ".join(f"{k} was {written.get(k)!r} and is {wanted.get(k)!r}" for k in names)


def _line(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, allow_nan=False) + "\n").encode()
