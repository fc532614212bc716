"""``hisplat data make-nerfstudio``: a capture for nerfstudio from photos with known cameras."""

from dataclasses import dataclass
from pathlib import Path

from .console import progress_line, tell
from .paths import check_folder_out


@dataclass(frozen=True)
class MakeNerfstudio:
    """Write a posed folder as nerfstudio reads it: photos, transforms.json, sparse points.

    For example:

      hisplat data make-nerfstudio --input fox/cameras.json --output fox-nerfstudio --size 960
      ns-train hisplat --data fox-nerfstudio
    """

    input: Path
    """A cameras.json or transforms.json beside its photos."""
    output: Path
    """The folder to write; made if it isn't there, its folder must be."""
    size: int | None = None
    """Long side of the photos in pixels; by default they keep their size. Photos are not
    enlarged."""
    points: int = 10_000
    """Sparse points at most, found by matching neighbouring photos; 0 for none."""

    def run(self) -> int:
        """Writes the capture; 0 when done.

        Raises:
            ValueError: for impossible sizes, or files that say nothing of photos.
            OSError: if something cannot be read or written.
        """
        if (self.size is not None and self.size < 32) or self.points < 0:
            raise ValueError(
                f"Expected --size of 32 or more and --points of 0 or more, got {self.size} and "
                f"{self.points}."
            )
        if not self.output.parent.is_dir():
            raise ValueError(
                f"Cannot write {self.output}: the folder {self.output.parent} does not exist."
            )
        check_folder_out(self.output)
        with progress_line() as progress:
            progress("loading the program", 0.0)
            import cv2

            from hisplat_data_tools.cameras_json import read_cameras
            from hisplat_data_tools.images import load_photo
            from hisplat_data_tools.nerfstudio_capture import (
                sparse_points,
                write_nerfstudio_capture,
            )

            file = read_cameras(self.input)
            photos, views = [], []
            for done, image in enumerate(file.images):
                progress(f"reading {image.file}", 0.6 * done / len(file.images))
                photo = load_photo(file.photo_path(image))
                height, width = photo.original_size
                scale = min(1.0, (self.size or max(height, width)) / max(height, width))
                size = max(1, round(width * scale)), max(1, round(height * scale))
                photos.append(cv2.resize(photo.pixels, size, interpolation=cv2.INTER_AREA))
                views.append(image.at_size(*size))
            progress("matching neighbours", 0.6)
            points = sparse_points(photos, views, self.points) if self.points else None
            write_nerfstudio_capture(self.output, photos, views, points)
        count = len(points[0]) if points is not None else 0
        tell(f"{self.output} holds {len(photos)} photos and {count} points.")
        return 0
