"""The controls for taking a scene along: files, a picture, a video."""

import threading
from collections.abc import Callable, Mapping
from functools import partial

import viser

from hisplat_models.gaussians import Gaussians

from .background_job import BackgroundJobs, Cancelled, Work
from .exchange import SceneWriter
from .look_panel import LookPanel
from .paragraphs import ERROR_COLOR, paragraph
from .saving import CameraFormat, SceneSaver
from .scene import DisplayFrame, Scene
from .scene_view import SceneView
from .video_controls import VideoControls
from .view_controls import photo_names
from .viewpoint import Viewpoint, cameras_at, checked_side, picture_size

AS_SHOWN, WHOLE = "As shown", "Whole scene"
CAMERA_FORMATS: dict[str, CameraFormat] = {
    "cameras.json": "cameras.json",
    "transforms.json (nerfstudio)": "transforms.json",
    "COLMAP (.zip)": "colmap.zip",
}
INTERNAL_ERROR = "Something went wrong inside the program; its log says what."
STILL_SIDE, LARGEST_STILL = 1280, 3840
MEGA = 1e6

Order = tuple[str, Work]
"""A file's name, and what makes its content."""


class SavePanel:
    """A folder of controls; hidden without a scene.

    Files are made on a thread of this browser, one at a time, which ends when the browser leaves.

    Args:
        client: The browser.
        name: Of the browser.
        lock: Of the browser's page; held by callbacks.
        look: What shows the scene.
        writers: Makes a file from a scene, by file ending.
        saver: Makes the other files; None offers none of them.
    """

    def __init__(
        self,
        client: viser.ClientHandle,
        name: str,
        lock: threading.RLock,
        look: LookPanel,
        writers: Mapping[str, SceneWriter],
        saver: SceneSaver | None,
    ) -> None:
        self._client = client
        self._lock = lock
        self._look = look
        self._writers = dict(writers)
        self._frame: DisplayFrame | None = None
        self._jobs = BackgroundJobs(f"files of {name}")
        self._buttons: list[viser.GuiButtonHandle] = []
        self._folder = client.gui.add_folder("Save", visible=False)
        with self._folder:
            self._part = client.gui.add_dropdown(
                "Part", (AS_SHOWN, WHOLE),
                hint="As shown: only what the levels and filters leave, as large as they make it",
            )  # fmt: skip
            self._add_scene_file()
            self._photo_files = client.gui.add_folder("Cameras and depth", expand_by_default=False)
            self._pictures = client.gui.add_folder("Picture", expand_by_default=False)
            self._videos = client.gui.add_folder("Video", expand_by_default=False)
            if saver is None:
                for folder in (self._photo_files, self._pictures, self._videos):
                    folder.visible = False
            else:
                self._add_photo_files(saver)
                self._add_picture(saver)
                self._add_video(saver)
            self._bar = client.gui.add_progress_bar(0.0, visible=False)
            self._cancel = client.gui.add_button("Cancel", icon=viser.Icon.X, visible=False)
            self._status = client.gui.add_html("", visible=False)
        self._cancel.on_click(lambda _: self._jobs.cancel())
        self._saver = saver

    def show(self, scene: Scene) -> None:
        """Offers this scene, which is shown already; the caller holds the page's lock."""
        if self._saver is not None:
            self._photo_files.visible = scene.cameras is not None
            view = self._look.view
            frame = None if view is None else view.frame
            self._video.offer(scene, same_place=frame is self._frame)
            self._frame = frame
            known = scene.photo_cameras is not None
            self._camera_format.visible = self._camera_button.visible = known
        self._folder.visible = True

    def clear(self) -> None:
        """Offers nothing, as before the first scene; the caller holds the page's lock."""
        self._folder.visible = False
        self._frame = None

    def close(self) -> None:
        """The browser has left; the caller holds the page's lock."""
        self._jobs.close()

    def _add_scene_file(self) -> None:
        endings = tuple(self._writers)
        gui = self._client.gui
        self._format = gui.add_dropdown("Format", endings or ("",), visible=bool(endings))
        button = self._add_button(f"Download {self._format.value}", self._scene_file)
        button.visible = bool(endings)

        def chosen(event: viser.GuiEvent) -> None:
            button.label = f"Download {self._format.value}"

        self._format.on_update(chosen)

    def _add_photo_files(self, saver: SceneSaver) -> None:
        with self._photo_files:
            self._camera_format = self._client.gui.add_dropdown("Cameras", tuple(CAMERA_FORMATS))
            self._camera_button = self._add_button(
                "Download cameras", partial(self._camera_file, saver)
            )
            self._add_button("Download depth maps", partial(self._depth_maps, saver))

    def _add_picture(self, saver: SceneSaver) -> None:
        with self._pictures:
            self._still_side = self._client.gui.add_number(
                "Long side (px)", STILL_SIDE, min=16, max=LARGEST_STILL, step=1
            )
            self._add_button("Download picture", partial(self._still, saver), viser.Icon.CAMERA)

    def _add_video(self, saver: SceneSaver) -> None:
        with self._videos:
            self._video = VideoControls(self._client, self._lock, self._here)
            self._add_button("Make video", partial(self._make_video, saver), viser.Icon.MOVIE)
            self._video.show_with_keyframes(
                self._add_button("Download keyframes", partial(self._keyframe_file, saver))
            )

    def _add_button(
        self,
        label: str,
        prepare: Callable[[SceneView], Order],
        icon: viser.IconName = viser.Icon.DOWNLOAD,
    ) -> viser.GuiButtonHandle:
        """A button that starts to make a file."""
        button = self._client.gui.add_button(label, icon=icon)
        self._buttons.append(button)

        def pressed(event: viser.GuiEvent) -> None:
            with self._lock:
                view = self._look.view
                if view is None:
                    return
                try:
                    name, work = prepare(view)
                    self._jobs.start(work, self._told, partial(self._ended, name))
                except ValueError as error:
                    self._say(str(error), ERROR_COLOR)
                else:
                    self._be_busy(True)
                    self._say(f"Making {name} …")

        button.on_click(pressed)
        return button

    def _scene_file(self, view: SceneView) -> Order:
        ending, gaussians = self._format.value, self._gaussians(view)
        if ending not in self._writers:  # a browser can send anything
            raise ValueError("There is no such format of scenes.")
        return f"scene{ending}", lambda _: self._writers[ending](gaussians)

    def _camera_file(self, saver: SceneSaver, view: SceneView) -> Order:
        kind, gaussians = CAMERA_FORMATS[self._camera_format.value], self._gaussians(view)
        photos = view.scene.photo_cameras
        if photos is None:
            raise ValueError("Nobody knows the cameras of the whole photos.")
        return kind, lambda _: saver.camera_file(photos, gaussians, kind)

    def _depth_maps(self, saver: SceneSaver, view: SceneView) -> Order:
        scene, gaussians = view.scene, self._gaussians(view)
        cameras, photos = scene.cameras, scene.photos
        if cameras is None or photos is None:
            raise ValueError("This scene has no photos.")
        known = scene.photo_cameras
        names = photo_names(scene) if known is None else known.names
        size = (photos.shape[-2], photos.shape[-1])
        return "depth.zip", lambda told: saver.depth_maps(gaussians, cameras, size, names, told)

    def _still(self, saver: SceneSaver, view: SceneView) -> Order:
        side = checked_side(self._still_side.value, LARGEST_STILL)
        aspect, gaussians = self._client.camera.aspect, self._gaussians(view)
        size = picture_size(aspect, side)
        camera, background = cameras_at([self._viewpoint(view)], aspect)[0], self._look.background
        return "picture.png", lambda _: saver.still(gaussians, camera, size, background)

    def _make_video(self, saver: SceneSaver, view: SceneView) -> Order:
        gaussians = self._gaussians(view)
        here, aspect = self._viewpoint(view), self._client.camera.aspect
        plan = self._video.plan(view, here, aspect, self._look.background)
        return f"video{plan.ending}", lambda told: saver.video(gaussians, plan, told)

    def _keyframe_file(self, saver: SceneSaver, view: SceneView) -> Order:
        gaussians = view.scene.gaussians
        keyframes = self._video.keyframe_cameras(self._client.camera.aspect)
        return "keyframes.json", lambda _: saver.camera_file(keyframes, gaussians, "cameras.json")

    def _gaussians(self, view: SceneView) -> Gaussians:
        gaussians = view.filtered() if self._part.value == AS_SHOWN else view.scene.gaussians
        if not gaussians.count:
            raise ValueError(f'Nothing is shown: choose "{WHOLE}", or loosen the filters.')
        return gaussians

    def _here(self) -> Viewpoint | None:
        view = self._look.view
        return None if view is None else self._viewpoint(view)

    def _viewpoint(self, view: SceneView) -> Viewpoint:
        camera = self._client.camera
        return Viewpoint.of(camera.position, camera.wxyz, camera.fov, view.frame)

    def _told(self, step: str, fraction: float) -> None:
        # Without the lock: whoever holds it may be waiting for a picture.
        self._bar.value = 100.0 * min(max(fraction, 0.0), 1.0)
        self._say(f"{step[:1].upper()}{step[1:]} …")

    def _ended(self, name: str, outcome: bytes | Exception) -> None:
        with self._lock:
            self._be_busy(False)
            match outcome:
                case bytes():
                    self._client.send_file_download(name, outcome, save_immediately=True)
                    self._say(f"{name} has {len(outcome) / MEGA:.1f} MB.")
                case Cancelled():
                    self._say("Cancelled.")
                case ValueError() | OSError():
                    self._say(str(outcome), ERROR_COLOR)
                case _:
                    self._say(INTERNAL_ERROR, ERROR_COLOR)

    def _be_busy(self, busy: bool) -> None:
        with self._client.atomic():
            for button in self._buttons:
                button.disabled = busy
            self._bar.value = 0.0
            self._bar.visible = self._cancel.visible = busy

    def _say(self, text: str, color: str = "inherit") -> None:
        self._status.content = paragraph(text, color)
        self._status.visible = True
