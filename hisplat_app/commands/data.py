"""``hisplat data``: chunk files, evaluation indices, captures for nerfstudio from own photos."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from .console import progress_line, tell, warn
from .nerfstudio_data import MakeNerfstudio

if TYPE_CHECKING:
    from hisplat_data_tools.datasets import ChunkScenes, SceneFolders, ViewChoice
    from hisplat_data_tools.datasets.chunk_writer import PictureFormat

CONSTANT_RANGE = (1.0, 100.0)
"""Near and far that networks trained on RealEstate10K and ACID take for granted."""


@dataclass(frozen=True)
class MakeChunks:
    """Write scenes as chunk files, the format of RealEstate10K that published networks read.

    Sources are posed folders (a cameras.json or transforms.json beside photos) and text files of
    poses with their videos, as RealEstate10K ships them. Stopped and started again with the same
    options it goes on. For example:

      hisplat data make-chunks --input photos --output chunks --split test --fit-depth
      hisplat data make-chunks --input RealEstate10K/train --videos videos --output re10k
    """

    input: Path
    """A posed folder, a folder of posed folders, or a folder of text files of poses."""
    output: Path
    """ROOT: chunks and their index go to ROOT/train or ROOT/test."""
    split: Literal["train", "test"] = "train"
    """Which part of the dataset this is."""
    videos: Path | None = None
    """The folder of the videos, named after their id in the URL or like the text file, or of
    extracted frames, CLIP/MICROSECONDS.jpg; by default the input folder."""
    height: int = 360
    """Height of the stored photos; they are resized to cover and their middle is cut out."""
    width: int = 640
    """Their width."""
    keep_size: bool = False
    """Store photos at the size they have."""
    quality: int = 95
    """JPEG quality, 1 to 100."""
    chunk_mb: float = 100.0
    """A chunk file is closed when its photos exceed this, megabytes."""
    per_pair: bool = False
    """One scene for each pair that cameras.json names, instead of one per folder."""
    fit_depth: bool = False
    """Scale each scene so that its nearest surface, as its cameras.json states it, is at depth 1.
    Chunks don't state near and far: networks take 1 and 100 for granted."""

    def run(self) -> int:
        """Writes the chunks; 0 when done.

        Raises:
            FileNotFoundError: if there is nothing to store.
            ValueError: if no scene can be used, or the output holds something else.
        """
        with progress_line() as progress:
            progress("loading the program", 0.0)
            from hisplat_data_tools.datasets import UnusableScene
            from hisplat_data_tools.datasets.chunk_writer import ChunkWriter, PictureFormat

            size = None if self.keep_size else (self.height, self.width)
            pictures = PictureFormat(size, self.quality)
            if self.chunk_mb <= 0:
                raise ValueError(f"Expected a positive --chunk-mb, got {self.chunk_mb}.")
            sources = list(self._sources())
            settings = {
                "size": size,
                "quality": self.quality,
                "per_pair": self.per_pair,
                "fit_depth": self.fit_depth,
            }
            folder, there, left_out = self.output / self.split, 0, 0
            with ChunkWriter(folder, settings, int(self.chunk_mb * 1e6)) as writer:
                for i, source in enumerate(sources):
                    progress(f"storing {source.key}", i / len(sources))
                    if source.key in writer:
                        there += 1
                        continue
                    try:
                        writer.add(source.stored(pictures))
                    except UnusableScene as error:
                        left_out += 1
                        warn(f"Left out: {error}")
            index, files = writer.index, len(set(writer.index.values()))
        if not index:
            raise ValueError(f"None of {left_out} scenes could be used.")
        tell(
            f"{folder} holds {len(index)} scenes in {files} chunk files "
            f"({there} were there before, {left_out} left out)."
        )
        return 0

    def _sources(self) -> "Iterator[_FolderSource | _ClipSource]":
        from hisplat_data_tools.datasets import SceneFolders
        from hisplat_data_tools.datasets.scene_folders import has_cameras

        if not self.input.is_dir():
            raise FileNotFoundError(f"There is no folder {self.input}.")
        if has_cameras(self.input):
            folders, texts = [self.input], []
        else:
            folders = sorted(p for p in self.input.iterdir() if has_cameras(p))
            texts = sorted(self.input.glob("*.txt"))
        if not folders and not texts:
            raise FileNotFoundError(
                f"Found nothing to store in {self.input}: expected cameras.json or transforms.json "
                "in it or its subfolders, or text files of poses."
            )
        if texts and self.fit_depth:
            raise ValueError("Text files of poses state no depths: leave out --fit-depth.")
        if folders:
            yield from self._folder_sources(SceneFolders(folders))
        for text in texts:
            yield _ClipSource(text, self.videos or self.input)

    def _folder_sources(self, scenes: "SceneFolders") -> "Iterator[_FolderSource]":
        for index, key in enumerate(scenes.keys):
            file = scenes.file(index)
            if not self.per_pair:
                yield _FolderSource(scenes, index, key, None, self.fit_depth)
                continue
            pairs = [i for i, pair in enumerate(file.pairs) if pair.targets]
            if not pairs:
                warn(f"Left out: {file.path} names no pairs with targets.")
            for pair in pairs:
                left, right = file.pairs[pair].left, file.pairs[pair].right
                name = f"{key}-{Path(left).stem}-{Path(right).stem}"
                yield _FolderSource(scenes, index, name, pair, self.fit_depth)


@dataclass(frozen=True)
class _FolderSource:
    """A posed folder, or one of its pairs."""

    scenes: "SceneFolders"
    index: int
    key: str
    pair: int | None
    fit_depth: bool

    def stored(self, pictures: "PictureFormat") -> dict[str, Any]:
        from dataclasses import replace

        from hisplat_data_tools.datasets import UnusableScene
        from hisplat_data_tools.datasets.chunk_writer import fitted_depths, stored_scene

        file = self.scenes.file(self.index)
        near, far = file.near, file.far
        if self.pair is not None:
            chosen = file.pairs[self.pair]
            near, far = file.depth_range(chosen.left, chosen.right) or (None, None)
        if self.fit_depth and (near is None or far is None):
            raise UnusableScene(f"{file.path} states no near and far for {self.key}.")
        # Chunks don't keep the range, so without --fit-depth any stands for an unknown one.
        bounds = CONSTANT_RANGE if near is None or far is None else (near, far)
        scene = replace(self.scenes.scene_with_range(self.index, *bounds), key=self.key)
        fits = CONSTANT_RANGE[0] <= bounds[0] and bounds[1] <= CONSTANT_RANGE[1]
        if self.fit_depth:
            scene, fits = fitted_depths(scene, *CONSTANT_RANGE)
        if not fits:
            low, high = float(scene.cameras.near[0]), float(scene.cameras.far[0])
            warn(f"{self.key} reaches from depth {low:.3g} to {high:.3g}, beyond 1 to 100.")
        return stored_scene(scene, pictures, pairs=self._pairs())

    def _pairs(self) -> list[dict[str, list[int]]]:
        file, names = self.scenes.file(self.index), self.scenes.names(self.index)
        pairs = file.pairs if self.pair is None else (file.pairs[self.pair],)
        return [
            {
                "context": [names.index(pair.left), names.index(pair.right)],
                "target": [names.index(target) for target in pair.targets],
            }
            for pair in pairs
            if pair.targets
        ]


@dataclass(frozen=True)
class _ClipSource:
    """A text file of poses and its video."""

    text: Path
    videos: Path

    @property
    def key(self) -> str:
        return self.text.stem

    def stored(self, pictures: "PictureFormat") -> dict[str, Any]:
        from hisplat_data_tools.datasets import UnusableScene
        from hisplat_data_tools.datasets.chunk_writer import stored_scene
        from hisplat_data_tools.datasets.posed_videos import find_video, read_clip

        clip = read_clip(self.text)
        try:
            video = find_video(clip, self.videos)
        except FileNotFoundError as error:  # many videos of the published list are gone
            raise UnusableScene(str(error)) from error
        scene = clip.scene(video, *CONSTANT_RANGE)
        return stored_scene(scene, pictures, clip.timestamps, clip.url)


@dataclass(frozen=True)
class MakeIndex:
    """Choose views of every scene to evaluate on and write them as an evaluation index.

    For example:

      hisplat data make-index --root chunks --output index.json --by pairs
      hisplat data make-index --root re10k --output index.json --by overlap --overlap 0.6
    """

    root: Path
    """The folder with train and test in it."""
    output: Path
    """The JSON file to write: {scene: {"context": [...], "target": [...]} or null}."""
    split: Literal["train", "test"] = "test"
    """Which part of the dataset."""
    dataset: Literal["re10k", "acid", "dtu", "replica", "chunks"] = "chunks"
    """Whose near and far hold; chunks, for one's own, has those of RealEstate10K."""
    by: Literal["pairs", "gap", "overlap"] = "gap"
    """How the two photos are chosen: as the folder that the chunk was made from says, a number of
    frames apart in the middle of the scene, or as far apart as --overlap allows."""
    gap: int = 45
    """Frames between the two."""
    overlap: float = 0.6
    """Least share of either photo that the other one sees, judged at one depth."""
    targets: int = 3
    """Views between the two that renders are compared with; --by pairs has its own."""
    views: int = 2
    """Photos to reconstruct from; those beyond two lie between them."""

    def run(self) -> int:
        """Writes the index; 0 when done.

        Raises:
            ValueError: for options out of range, or if no scene has such views.
        """
        with progress_line() as progress:
            progress("loading the program", 0.0)
            from hisplat_data_tools.datasets import DATASETS, ChunkScenes, UnusableScene
            from hisplat_data_tools.datasets.evaluation_index import with_view_count, write_index

            if not 0 < self.overlap < 1 or self.targets < 1 or self.views < 2:
                raise ValueError(
                    "Expected 0 < --overlap < 1, --targets of at least 1 and --views of at least "
                    f"2, got {self.overlap}, {self.targets} and {self.views}."
                )
            scenes = ChunkScenes(self.root, self.split, DATASETS[self.dataset])
            entries: dict[str, ViewChoice | None] = dict.fromkeys(scenes.keys)
            order = [i for group in scenes.groups for i in group]
            for done, i in enumerate(order):
                progress(f"choosing views of {scenes.keys[i]}", done / len(order))
                try:
                    views = self._choice(scenes, i)
                    if views is not None and self.views > 2:
                        cameras = scenes.scene(i).cameras
                        views = with_view_count(views, self.views, cameras, scenes.keys[i])
                except UnusableScene as error:
                    warn(str(error))
                    continue
                entries[scenes.keys[i]] = views
        usable = sum(e is not None for e in entries.values())
        if not usable:
            raise ValueError(f"None of the {len(entries)} scenes has such views.")
        write_index(self.output, entries)
        tell(f"Wrote {self.output}: views of {usable} of {len(entries)} scenes, null for others.")
        return 0

    def _choice(self, scenes: "ChunkScenes", index: int) -> "ViewChoice | None":
        from hisplat_data_tools.datasets import ViewChoice
        from hisplat_data_tools.datasets.evaluation_index import views_by_gap, views_by_overlap

        if self.by == "pairs":
            pairs = scenes.pairs(index)
            if not pairs:
                return None
            return ViewChoice(tuple(pairs[0]["context"]), tuple(pairs[0]["target"]))
        scene = scenes.scene(index)
        if self.by == "gap":
            return views_by_gap(len(scene), self.gap, self.targets)
        return views_by_overlap(scene.cameras, self.overlap, self.targets)


@dataclass(frozen=True)
class IndexChunks:
    """Write the index.json of a folder of chunk files that has none, or a wrong one."""

    folder: Annotated[Path, tyro.conf.Positional]
    """ROOT/train or ROOT/test."""

    def run(self) -> int:
        """Writes the index; 0 when done."""
        from hisplat_data_tools.datasets.chunk_writer import index_chunks, write_chunk_index

        index = index_chunks(self.folder)
        write_chunk_index(self.folder, index)
        tell(f"{self.folder} holds {len(index)} scenes in {len(set(index.values()))} chunk files.")
        return 0


@dataclass(frozen=True)
class Data:
    """Prepare datasets of photos with known cameras."""

    command: Annotated[
        Annotated[MakeChunks, tyro.conf.subcommand("make-chunks")]
        | Annotated[MakeIndex, tyro.conf.subcommand("make-index")]
        | Annotated[IndexChunks, tyro.conf.subcommand("index-chunks")]
        | Annotated[MakeNerfstudio, tyro.conf.subcommand("make-nerfstudio")],
        tyro.conf.OmitArgPrefixes,
        tyro.conf.OmitSubcommandPrefixes,
    ]
    """What to do; each has its own --help."""

    def run(self) -> int:
        """Runs it; the exit status."""
        return self.command.run()
