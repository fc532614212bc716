"""Many browsers at once: nothing lost, nothing mixed up, memory flat.

    python benchmarks/load.py --clients 20 --requests 5 --output docs/benchmarks/load.json

Every client has photos of its own colour and asks one question after the other through the page's
own door (``PageScenes``); now and then it changes its mind and asks anew at once. The scene that
comes back must be made of the photos of just that question.
"""

import gc
import io
import json
import statistics
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

import hisplat_app
from hisplat_app.machine import machine
from hisplat_app.page_scenes import PageScenes
from hisplat_app.reconstruction_session import ReconstructionSession
from hisplat_data_tools.atomic_write import write_atomically
from hisplat_viewer import PhotoSet, Scene, Upload

DEMO = Path(hisplat_app.__file__).parent / "demo"
CHANGES_MIND_EVERY = 4
SAME_COLOR = 0.02
"""Mean difference of colours, in [0, 1], that photos of one question may have after resizing."""


@dataclass(frozen=True)
class Load:
    """How much is asked for.

    Attributes:
        clients: How many ask at the same time.
        requests: How many questions each asks, one after the other.
        size: Working size, pixels.
        photo_side: Long side of the photos that are sent, pixels.
        model: Which network answers.
        patience_s: Seconds after which an answer counts as lost.
        output: Where to write the figures, as JSON.
    """

    clients: int = 20
    requests: int = 5
    size: int = 128
    photo_side: int = 320
    model: str = "hisplat-small"
    patience_s: float = 600.0
    output: Path | None = None


@dataclass
class Figures:
    """What came of it; times in seconds, memory in MB."""

    answered: int = 0
    lost: int = 0
    mixed_up: int = 0
    failed: int = 0
    replaced: int = 0
    seconds: float = 0.0
    median_wait: float = 0.0
    longest_wait: float = 0.0
    farthest_place: int = 0
    resident_mb: tuple[float, ...] = ()
    """After each tenth of the answers."""


class Answer:
    """A listener that notes what it hears and can be waited for."""

    def __init__(self) -> None:
        self.scene: Scene | None = None
        self.message: str | None = None
        self.places: list[int] = []
        self.previews: list[Scene] = []
        self.ended = threading.Event()

    def waiting(self, ahead: int) -> None:
        """Its place in the queue."""
        self.places.append(ahead)

    def progress(self, step: str, fraction: float) -> None:
        """Nothing that is noted."""

    def preview(self, scene: Scene) -> None:
        """The coarser levels."""
        self.previews.append(scene)

    def finished(self, scene: Scene) -> None:
        """The answer."""
        self.scene = scene
        self.ended.set()

    def failed(self, message: str) -> None:
        """No answer, and why."""
        self.message = message
        self.ended.set()


class Crowd:
    """Clients that ask at the same time, and the figures about their answers."""

    def __init__(self, scenes: PageScenes, load: Load) -> None:
        self.figures = Figures()
        self._scenes = scenes
        self._load = load
        self._lock = threading.Lock()  # guards the figures and the lists below
        self._waits: list[float] = []
        self._resident: list[float] = []

    def run(self) -> Figures:
        """Everybody asks; the figures when all have their answers."""
        began = time.perf_counter()
        threads = [
            threading.Thread(target=self._ask_all, args=(number,))
            for number in range(self._load.clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        figures = self.figures
        figures.seconds = time.perf_counter() - began
        figures.median_wait = statistics.median(self._waits)
        figures.longest_wait = max(self._waits)
        figures.resident_mb = tuple(round(mb, 1) for mb in self._resident)
        return figures

    def _ask_all(self, client: int) -> None:
        for question in range(self._load.requests):
            if (client + question) % CHANGES_MIND_EVERY == 0:
                pair, _ = colored_pair(client, question + 1000, self._load.photo_side)
                self._scenes.request(f"client {client}", pair, Answer())
                with self._lock:
                    self.figures.replaced += 1
            self._ask(client, question)

    def _ask(self, client: int, question: int) -> None:
        pair, color = colored_pair(client, question, self._load.photo_side)
        answer = Answer()
        began = time.perf_counter()
        self._scenes.request(f"client {client}", pair, answer)
        came = answer.ended.wait(self._load.patience_s)
        waited = time.perf_counter() - began
        with self._lock:
            self._waits.append(waited)
            self.figures.farthest_place = max(self.figures.farthest_place, *answer.places, 0)
            if not came:
                self.figures.lost += 1
            elif answer.scene is None:
                self.figures.failed += 1
            elif not made_of(answer.scene, pair, color):
                self.figures.mixed_up += 1
            else:
                self.figures.answered += 1
            tenth = max(1, self._load.clients * self._load.requests // 10)
            if len(self._waits) % tenth == 0:
                self._resident.append(resident_mb())


def colored_pair(client: int, question: int, side: int) -> tuple[PhotoSet, np.ndarray]:
    """The bundled photos, with names and a tint of this question, and their mean colour."""
    tint = np.random.default_rng((client, question)).uniform(0.4, 1.0, 3)
    uploads, colors = [], []
    for name in ("left", "right"):
        photo = Image.open(DEMO / f"{name}.jpg").convert("RGB")
        photo.thumbnail((side, side), Image.Resampling.BOX)
        pixels = np.round(np.asarray(photo) * tint).astype(np.uint8)
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "PNG", compress_level=1)
        uploads.append(Upload(f"{name} {client} {question}.png", content.getvalue()))
        colors.append(pixels.mean(axis=(0, 1)) / 255)
    return PhotoSet(tuple(uploads), fov_degrees=59.5), np.stack(colors)


def made_of(scene: Scene, pair: PhotoSet, color: np.ndarray) -> bool:
    """Whether a scene carries the names and the colours of these photos."""
    if scene.photos is None or scene.photo_cameras is None:
        return False
    names = tuple(photo.name for photo in pair.photos)
    seen = scene.photos.mean(dim=(2, 3)).numpy()
    return scene.photo_cameras.names == names and bool(np.abs(seen - color).max() < SAME_COLOR)


def resident_mb() -> float:
    """Memory of this process that is in use, from Linux; 0 elsewhere."""
    gc.collect()
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    line = next(x for x in status.read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def put_under(load: Load) -> Figures:
    """The figures of a new session under this load."""
    with ReconstructionSession(load.model, "cpu", load.size, warm_up=True) as session:
        scenes = PageScenes(session, load.model, load.size)
        return Crowd(scenes, load).run()


def main(load: Load) -> None:
    """Prints and writes the figures."""
    figures = put_under(load)
    text = json.dumps(
        {
            "load": {**asdict(load), "output": None},
            "figures": asdict(figures),
            "machine": machine(),
        },
        indent=1,
    )
    print(text)
    if load.output is not None:
        write_atomically(load.output, (text + "\n").encode())


if __name__ == "__main__":
    main(tyro.cli(Load, description=__doc__))
