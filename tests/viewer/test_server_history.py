"""The scenes of a browser that it can go back to."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from hisplat_viewer import (
    Scene,
    ViewerServer,
    history_panel,
)
from tests.no_scenes import NoScenes

from .visitors import Visitor, until


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    with ViewerServer(NoScenes(), {}, port=0) as server:
        yield Visitor(server)


def show(visitor: Visitor, scene: Scene, count: int) -> list[Scene]:
    scenes = [replace(scene, summary=f"scene number {i}") for i in range(count)]
    for i, shown in enumerate(scenes):
        visitor.panel.show(shown, f"photos {i}")
    return scenes


def test_a_preview_gives_way_to_the_scene(scene: Scene):
    """Those who came before the preview see it, those who come after it as well."""
    with ViewerServer(NoScenes(), {}, port=0) as server:
        early = Visitor(server)
        server.preview(scene)
        late = Visitor(server)
        until(lambda: early.panel._previewing and late.panel._previewing, "the preview")
        assert not early.panel.has_scene
        server.show(replace(scene, summary="the whole scene"))
        for visitor in (early, late, Visitor(server)):
            until(lambda panel=visitor.panel: panel.has_scene, "the scene")
            assert not visitor.panel._previewing
        server.preview(scene)
        assert not early.panel._previewing


def test_one_scene_is_no_choice(visitor: Visitor, scene: Scene):
    show(visitor, scene, 1)
    assert not visitor.panel._history._list.visible


def test_going_back_shows_the_older_scene_again(visitor: Visitor, scene: Scene):
    show(visitor, scene, 3)
    shown = visitor.panel._history._list
    assert shown.options == ("3: photos 2", "2: photos 1", "1: photos 0")
    visitor.send("GuiUpdateMessage", uuid=shown._impl.uuid, updates={"value": "1: photos 0"})
    until(lambda: "scene number 0" in visitor.status, "the first scene")
    assert shown.options == ("3: photos 2", "2: photos 1", "1: photos 0")


def test_only_the_last_scenes_are_kept(visitor: Visitor, scene: Scene):
    scenes = show(visitor, scene, history_panel.MOST_SCENES + 2)
    kept = list(visitor.panel._history._scenes.values())
    assert [id(x) for x in kept] == [id(x) for x in scenes[2:]]


def test_large_scenes_are_kept_in_smaller_number(
    visitor: Visitor, scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(history_panel, "MOST_GAUSSIANS", int(2.5 * scene.gaussians.count))
    scenes = show(visitor, scene, 4)
    kept = list(visitor.panel._history._scenes.values())
    assert [id(x) for x in kept] == [id(x) for x in scenes[2:]]


def test_a_scene_larger_than_all_that_is_kept_is_shown_all_the_same(
    visitor: Visitor, scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(history_panel, "MOST_GAUSSIANS", 1)
    show(visitor, scene, 2)
    assert list(visitor.panel._history._scenes) == ["2: photos 1"]
