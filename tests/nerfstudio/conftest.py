"""A small made-up capture, and nerfstudio's own commands to run on it."""

import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hisplat_data_tools.procedural.capture import CaptureSettings, write_capture

HERE = Path(__file__).parent
CPU = ("--machine.device-type", "cpu", "--vis", "tensorboard", "--timestamp", "run")

collect_ignore: list[str] = []
if importlib.util.find_spec("nerfstudio") is None:
    # An environment of its own has it: make test-nerfstudio.
    collect_ignore = [path.name for path in HERE.glob("test_*.py")]
else:
    # What the commands get through their PYTHONPATH; kept, or the operators are gone again.
    placeholders = runpy.run_path(str(HERE / "site" / "sitecustomize.py"))


def environment(**more: str) -> dict[str, str]:
    """Of the commands: one thread, and a torchvision that can be imported on a CPU."""
    paths = [str(HERE / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        # Compiling splatfacto's small functions takes minutes here, and saves none.
        "TORCHDYNAMO_DISABLE": "1",
        # Wide enough for our lines of the logs, too narrow for help in two columns.
        "COLUMNS": "100",
        **more,
    }


@dataclass
class Commands:
    """nerfstudio's commands in processes of their own."""

    server: subprocess.Popen[str]
    logs: Path
    count: int = 0

    def __call__(self, command: str, *arguments: str | Path) -> str:
        """What a command that ends well wrote."""
        self.count += 1
        log = self.logs / f"{self.count:02d}-{command}.log"
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps([str(log), command, *map(str, arguments)]) + "\n")
        self.server.stdin.flush()
        answer = self.server.stdout.readline().strip()
        text = log.read_text() if log.exists() else ""
        assert answer == "0", f"{command} {' '.join(map(str, arguments))}: {answer}\n{text[-4000:]}"
        return text


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    logs = tmp_path_factory.mktemp("logs")
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", str(HERE / "command_server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
        cwd=logs,
    ) as server:
        yield Commands(server, logs)
        assert server.stdin is not None
        server.stdin.close()


@pytest.fixture(scope="session")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos of the made-up room with points; nerfstudio evaluates on one of them."""
    folder = tmp_path_factory.mktemp("captures") / "room"
    write_capture(folder, CaptureSettings(views=12, width=96, height=72))
    return folder


@dataclass(frozen=True)
class Run:
    """A finished training."""

    folder: Path
    log: str

    @property
    def config(self) -> Path:
        return self.folder / "config.yml"

    @property
    def checkpoint(self) -> Path:
        return sorted((self.folder / "nerfstudio_models").glob("*.ckpt"))[-1]

    @property
    def gaussians(self) -> int:
        """How many it started from."""
        (count,) = re.findall(
            r"(?:made|Started from) ([\d,]+) (?:Gaussians|random|sparse)", self.log
        )
        return int(count.replace(",", ""))


def train(commands: Commands, method: str, capture: Path, out: Path, *more: str | Path) -> Run:
    """``ns-train`` on the CPU."""
    log = commands("ns-train", method, "--data", capture, "--output-dir", out, *CPU, *more)
    return Run(out / capture.name / method / "run", log)


def evaluated(commands: Commands, run: Run) -> dict[str, float]:
    """What ``ns-eval`` says about the held-out photo."""
    output = run.folder / "evaluation.json"
    commands("ns-eval", "--load-config", run.config, "--output-path", output)
    return json.loads(output.read_text())["results"]


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="session")
def first(commands: Commands, capture: Path, outputs: Path) -> Run:
    """``hisplat-init``: feed-forward alone."""
    return train(commands, "hisplat-init", capture, outputs)


@pytest.fixture(scope="session")
def refined(commands: Commands, capture: Path, outputs: Path) -> Run:
    """``hisplat`` for a few iterations; density control acts twice in them."""
    return train(
        commands,
        "hisplat",
        capture,
        outputs,
        *("--max-num-iterations", "60"),
        *("--pipeline.model.warmup-length", "20", "--pipeline.model.refine-every", "25"),
        *("--pipeline.model.reset-alpha-every", "1000"),
    )
