"""What the program says of photos that no good scene can come from: refused or graded, and why.

The first pair of every posed scene is spoilt in one way after another (the same photo twice, blur,
darkness, things that moved, ...), and made-up rooms bring what photos cannot: tiny steps, steps
forward, bare walls, repeated windows. Each answer is put beside the words of its true cause.

Usage: python benchmarks/hard_inputs.py --data DIR --output FILE.json
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, pairwise
from pathlib import Path

import cv2
import numpy as np
import tyro

from hisplat_app import reconstruct
from hisplat_app.evaluation.folders import find_folders
from hisplat_app.machine import machine
from hisplat_app.self_check import Signs
from hisplat_app.verdict import Verdict, verdict_of
from hisplat_data_tools.datasets import PosedFolderDataset
from hisplat_data_tools.images import ExifFocal, Photo
from hisplat_data_tools.procedural.demo import FOCAL_PX, HEIGHT, WIDTH, demo_scene
from hisplat_data_tools.procedural.photo_effects import Exposure, develop
from hisplat_data_tools.procedural.raycast import BOX
from hisplat_data_tools.procedural.render import Camera, render
from hisplat_data_tools.procedural.scene import Scene, SceneBuilder
from hisplat_data_tools.procedural.views import look_at
from hisplat_models.checkpoints import load_model
from hisplat_models.network import HiSplat

SIZE = 384
SAMPLES = 4
SEED = 5
GRAY_LEVEL = 0.2
"""Linear light that the median of a made-up room is exposed to."""


@dataclass(frozen=True)
class Options:
    """Which photos."""

    data: Path
    """Folder of posed scenes."""
    output: Path | None = None
    """JSON file for the results; none is written by default."""
    scenes: tuple[str, ...] = ()
    """Names of some of them; all by default."""
    measured: Path | None = None
    """JSON lines, one a case, that an interrupted run goes on with; none by default."""
    only: tuple[str, ...] = ()
    """Names of the cases to look at; all by default."""


@dataclass(frozen=True)
class Case:
    """Two photos.

    Attributes:
        name: What is wrong with them.
        scene: What they show.
        photos: Left and right.
        focal_px: The focal length that the program is told.
        causes: Words, one of which the answer should have; empty if nothing is wrong.
    """

    name: str
    scene: str
    photos: tuple[Photo, Photo]
    focal_px: float
    causes: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What the program made of a case.

    Attributes:
        name: As of the case; so are ``scene`` and ``causes``.
        refusal: What it said instead of making a scene; None if it made one.
        signs: Of the scene.
        camera_quality: Figures of its cameras.
        warnings: Besides the verdict.
    """

    name: str
    scene: str
    causes: tuple[str, ...]
    refusal: str | None = None
    signs: Signs | None = None
    camera_quality: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict | None:
        """None if it was refused."""
        return self.signs and verdict_of(self.signs, self.camera_quality, photos=2)

    @property
    def grade(self) -> str:
        """Of the scene, or "refused"."""
        return self.verdict.grade if self.verdict else "refused"

    @property
    def words(self) -> str:
        """All that the user reads."""
        return " ".join(map(str, (self.verdict or self.refusal, *self.warnings)))

    @property
    def is_told(self) -> bool:
        """Whether the true cause is among the words; yes if nothing is wrong."""
        return not self.causes or any(cause in self.words for cause in self.causes)


Pixels = np.ndarray
Spoil = Callable[[Pixels, Pixels, float], tuple[Pixels, Pixels]]
NO_PARALLAX = ("hardly moved", "moved little")
NO_MATCHES = ("match",)


def _brightened(photo: Pixels, gain: float, noise: float = 0.0) -> Pixels:
    rng = np.random.default_rng(SEED)
    noisy = photo.astype(np.float64) * gain + rng.normal(0, noise, photo.shape) * (noise > 0)
    return np.clip(noisy.round(), 0, 255).astype(np.uint8)


def _blurred(photo: Pixels) -> Pixels:
    return np.asarray(cv2.GaussianBlur(photo, None, photo.shape[1] / 150))  # pyright: ignore[reportArgumentType, reportCallIssue]


def _shaken(photo: Pixels) -> Pixels:
    width = photo.shape[1] // 25
    return np.asarray(cv2.filter2D(photo, -1, np.full((1, width), 1 / width)))


def _turned_only(left: Pixels, right: Pixels, focal: float) -> tuple[Pixels, Pixels]:
    """The left photo and what a camera turned by 4 degrees in its place would have shown."""
    height, width = left.shape[:2]
    angle = np.radians(4)
    matrix = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    turn = cv2.Rodrigues(np.array([0.2 * angle, angle, 0]))[0]
    turned = cv2.warpPerspective(left, matrix @ turn @ np.linalg.inv(matrix), (width, height))
    rows, columns = slice(height // 8, -height // 8), slice(width // 8, -width // 8)
    return left[rows, columns], np.asarray(turned)[rows, columns]


def _moved_things(count: int) -> Spoil:
    """Pieces of the left photo lie elsewhere in each of both photos."""

    def spoil(left: Pixels, right: Pixels, focal: float) -> tuple[Pixels, Pixels]:
        rng = np.random.default_rng(SEED)
        height, width = left.shape[:2]
        rows, columns = height // 3, width // 4
        spoilt = left.copy(), right.copy()
        for _ in range(count):
            y, x = rng.integers(0, height - rows), rng.integers(0, width - columns)
            piece = left[y : y + rows, x : x + columns, ::-1]
            for photo in spoilt:
                to_y, to_x = rng.integers(0, height - rows), rng.integers(0, width - columns)
                photo[to_y : to_y + rows, to_x : to_x + columns] = piece
        return spoilt

    return spoil


def _apart(left: Pixels, right: Pixels, focal: float) -> tuple[Pixels, Pixels]:
    """The left 60 % of one photo and the right 60 % of the other."""
    width = int(left.shape[1] * 0.6)
    return left[:, :width], right[:, -width:]


def _coarse(photo: Pixels) -> Pixels:
    height, width = photo.shape[:2]
    small = cv2.resize(photo, (width // 8, height // 8), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


def _both(effect: Callable[[Pixels], Pixels]) -> Spoil:
    return lambda left, right, _: (effect(left), effect(right))


SPOILT: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "as it is": (lambda a, b, _: (a, b), ()),
    "same photo twice": (lambda a, b, _: (a, a.copy()), ("same photo",)),
    "same photo, other noise": (lambda a, b, _: (a, _brightened(a, 1, 3)), NO_PARALLAX),
    "turned only": (_turned_only, NO_PARALLAX),
    "blurred": (_both(_blurred), ("blur", "sharp")),
    "one blurred": (lambda a, b, _: (a, _blurred(b)), ("blur", "sharp")),
    "shaken": (lambda a, b, _: (a, _shaken(b)), ("blur", "sharp")),
    "dark": (_both(lambda a: _brightened(a, 0.06, 1.5)), ("dark",)),
    "noisy": (_both(lambda a: _brightened(a, 1, 30)), ("nois",)),
    "overexposed": (_both(lambda a: _brightened(a, 4)), ("overexposed",)),
    "one darker": (lambda a, b, _: (a, _brightened(b, 0.4)), ()),
    "a thing moved": (_moved_things(1), ("moved", "moving")),
    "three things moved": (_moved_things(3), ("moved", "moving")),
    "little overlap": (_apart, ("of what a photo shows", *NO_MATCHES)),
    "one mirrored": (lambda a, b, _: (a, b[:, ::-1].copy()), ("mirror",)),
    "one upside down": (lambda a, b, _: (a, b[::-1, ::-1].copy()), ()),
    "one on its side": (lambda a, b, _: (a, np.rot90(b).copy()), ()),
    "eighth of the resolution": (_both(_coarse), ("blur", "sharp")),
}
"""What is done to both photos, and words for it."""

WRONG_FOCAL = {"half the focal length": 0.5, "twice the focal length": 2.0}


def spoilt_cases(datasets: Sequence[PosedFolderDataset]) -> Iterator[Case]:
    """The first pair of each scene, spoilt in all ways."""
    for dataset, other in pairwise([*datasets, datasets[0]]):
        pair = dataset.pairs[0]
        left, right = (dataset.photo(name).pixels for name in (pair.left, pair.right))
        focal = dataset.camera(pair.left).at_size(left.shape[1], left.shape[0]).fx
        scene = dataset.scene
        for name, (spoil, causes) in SPOILT.items():
            yield Case(name, scene, _photos(*spoil(left, right, focal)), focal, causes)
        for name, factor in WRONG_FOCAL.items():
            yield Case(name, scene, _photos(left, right), focal * factor, ("focal",))
        if other is not dataset:
            stranger = other.photo(other.pairs[0].right).pixels
            size = (left.shape[1], left.shape[0])
            unlike = np.asarray(cv2.resize(stranger, size, interpolation=cv2.INTER_AREA))
            yield Case("unrelated", scene, _photos(left, unlike), focal, ("same",))


def made_up_cases() -> Iterator[Case]:
    """Pairs of made-up rooms."""
    eye, look = np.array([0.1, -2.1, 1.5]), np.array([0.05, 2.0, 0.95])
    room, aside = demo_scene(), np.array([1.0, 0, 0])
    for name, step, turn, causes in (
        ("a step to the side", 0.5 * aside, 0.0, ()),
        ("a step of 1 % of the distance", 0.04 * aside, 0.0, NO_PARALLAX),
        ("a step of 0.3 % of the distance", 0.012 * aside, 0.0, NO_PARALLAX),
        ("no step", 0 * aside, 0.3, NO_PARALLAX),
        ("a step forward", np.array([0.02, 0.7, -0.05]), 0.0, ("forward",)),
        ("turned away", 0.5 * aside, 0.9, ("of what a photo shows", *NO_MATCHES)),
        ("from the other side", np.array([1.9, 2.2, 0.1]), -1.0, ("moved far", *NO_MATCHES)),
    ):
        yield _made_up(name, room, eye, look, step, turn, causes)
    few = ("texture", *NO_MATCHES)
    yield _made_up("bare walls", bare_room(), eye, look, 0.5 * aside, 0.0, few)
    yield _made_up("repeated windows", windows(), eye, look, 0.33 * aside, 0.0, ("alike",))


def bare_room() -> Scene:
    """Even walls and a small box."""
    build = SceneBuilder(np.random.default_rng(SEED), texture_size=256)
    paint = build.material(build.texture("plain"), 3.0, glossy=0.0)
    for place, facing in (((0, 3, 1.5), (0, -1, 0)), ((-2.6, 0, 1.5), (1, 0, 0))):
        build.wall(np.array(place), np.array(facing, dtype=float), 8.0, 4.0, paint)
    print_ = build.material(build.texture("print"), 0.6, glossy=0.0)
    build.add(BOX, np.array([0.3, 1.5, 0.9]), (0.25, 0.2, 0.3), print_)
    return _lit(build)


def windows() -> Scene:
    """A wall of equal windows."""
    build = SceneBuilder(np.random.default_rng(SEED), texture_size=256)
    facade = build.material(build.texture("facade"), 0.5, glossy=0.0, upright=True)
    build.wall(np.array([0, 2.0, 1.0]), np.array([0.0, -1, 0]), 20.0, 20.0, facade)
    return _lit(build)


def _lit(build: SceneBuilder) -> Scene:
    build.sun(np.array([0.4, -2.0, 1.5]), np.full(3, 0.8))
    build.ambient = np.full((2, 3), 0.4)
    return build.build("made up", np.zeros((2, 3)), np.zeros((2, 3)))


def _made_up(
    name: str,
    scene: Scene,
    eye: np.ndarray,
    look: np.ndarray,
    step: np.ndarray,
    turn: float,
    causes: tuple[str, ...],
) -> Case:
    """Photos from ``eye`` and a step away, the second turned to the right by so many radians."""
    intrinsics = np.array([[FOCAL_PX / WIDTH, 0, 0.5], [0, FOCAL_PX / HEIGHT, 0.5], [0, 0, 1.0]])
    turned = np.eye(4)
    turned[:3, :3] = cv2.Rodrigues(np.array([0, turn, 0]))[0]
    poses = look_at(eye, look), look_at(eye + step, look + step) @ turned
    lights = [render(scene, Camera(p, intrinsics), HEIGHT, WIDTH, SAMPLES).radiance for p in poses]
    exposure = Exposure(np.full(3, GRAY_LEVEL / float(np.median(lights[0]))))
    rng = np.random.default_rng(SEED)
    noisy = [develop(light, exposure) + rng.normal(0, 0.005, light.shape) for light in lights]
    stored = [np.clip(photo * 255 + 0.5, 0, 255).astype(np.uint8) for photo in noisy]
    return Case(name, "made up", _photos(*stored), FOCAL_PX, causes)


def _photos(left: Pixels, right: Pixels) -> tuple[Photo, Photo]:
    silent = ExifFocal(None, None, None, None, None)
    a, b = (
        Photo(np.ascontiguousarray(p), name, p.shape[:2], p.shape[:2], silent)
        for name, p in (("left", left), ("right", right))
    )
    return a, b


def answered(case: Case, network: HiSplat) -> Answer:
    """What the program says; refinement would change no word of it."""
    answer = Answer(case.name, case.scene, case.causes)
    try:
        made = reconstruct(*case.photos, focal_px=case.focal_px, model=network, size=SIZE, refine=0)
    except ValueError as refusal:
        return replace(answer, refusal=str(refusal))
    report = made.report
    return replace(
        answer,
        signs=report.signs,
        camera_quality=report.camera_quality,
        warnings=tuple(w for w in report.warnings if w != str(report.verdict)),
    )


def read_answers(path: Path | None) -> list[Answer]:
    """What an earlier run has seen."""
    if path is None or not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Answer(**{**r, "signs": r["signs"] and Signs(**r["signs"])}) for r in rows]


def summary(answers: Sequence[Answer]) -> dict[str, dict[str, int]]:
    """Of each case: how often which grade, and how often the cause was named."""
    found: dict[str, dict[str, int]] = {}
    for answer in answers:
        row = found.setdefault(
            answer.name, {"refused": 0, "poor": 0, "usable": 0, "good": 0, "told": 0}
        )
        row[answer.grade] += 1
        row["told"] += answer.is_told
    return found


def main(options: Options) -> None:
    """Measures, prints and writes."""
    network = load_model()
    folders = find_folders(options.data, options.scenes).posed
    datasets = [PosedFolderDataset(folder, SIZE, network.size_multiple) for folder in folders]
    answers = read_answers(options.measured)
    done = {(a.scene, a.name) for a in answers}
    for case in chain(made_up_cases(), spoilt_cases(datasets)):
        if (case.scene, case.name) in done or (options.only and case.name not in options.only):
            continue
        answers.append(answered(case, network))
        print(
            case.scene, "|", case.name, "|", answers[-1].grade, "|", answers[-1].words, flush=True
        )
        if options.measured is not None:
            with options.measured.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(answers[-1])) + "\n")
    document = {
        "machine": machine(),
        "size": SIZE,
        "summary": summary(answers),
        "answers": [
            {**asdict(a), "grade": a.grade, "words": a.words, "is_told": a.is_told} for a in answers
        ],
    }
    print(json.dumps(document["summary"], indent=1))
    if options.output is not None:
        options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main(tyro.cli(Options, description=__doc__))
