import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hisplat_app.cli import USER_ERROR, main
from hisplat_app.evaluation import Evaluate, networks
from hisplat_app.evaluation.alignment import Similarity, baseline
from hisplat_app.evaluation.estimated_cameras import KnownLens, align, estimate_cameras
from hisplat_app.evaluation.folders import find_folders
from hisplat_app.evaluation.methods import Context, MethodFailed, nearest_photo, single_plane
from hisplat_app.evaluation.pair_range import median_depth
from hisplat_app.evaluation.sgbm import SgbmSplats, rectify, sgbm_depth
from hisplat_app.evaluation.shared_work import SharedWork
from hisplat_app.evaluation.statistics import (
    Scores,
    ViewScore,
    bootstrap_interval,
    mean_scores,
    scene_means,
    score_view,
    wins_over,
)
from hisplat_app.evaluation.visibility import seen_by_a_photo
from hisplat_data_tools.datasets import PosedFolderDataset
from hisplat_models.cameras import Cameras
from hisplat_models.matching import MatchingPrior, match_views
from hisplat_models.metrics import psnr
from hisplat_models.network import HiSplat, HiSplatOutput
from hisplat_models.rendering import create_renderer
from tests.two_planes import (
    BOARD_DEPTH,
    SIZE,
    WALL_DEPTH,
    two_planes_cameras,
    two_planes_views,
    write_photo,
    write_posed_folder,
    write_stereo_folder,
)


def two_planes_context(turned: bool = False) -> tuple[Context, Cameras, torch.Tensor]:
    """Left and right photo, the target's camera, its photo; ``turned`` onto the side."""
    cameras = two_planes_cameras()
    if turned:
        roll = torch.tensor([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        cameras = replace(cameras, camera_to_world=cameras.camera_to_world @ roll)
    photos, _ = two_planes_views(cameras)
    context = cameras[[0, 2]]
    middle = median_depth(photos[[0, 2]], context)
    return Context(photos[[0, 2]], context, middle), cameras[1:2], photos[1:2]


@pytest.mark.parametrize("turned", [False, True])
def test_sgbm_beats_the_plane_and_the_plane_beats_the_nearest_photo(turned: bool) -> None:
    context, target, photo = two_planes_context(turned)
    methods = [nearest_photo, single_plane, SgbmSplats(create_renderer("cpu"))]
    nearest, plane, sgbm = (
        psnr(method(context, target, SIZE).color, photo).item() for method in methods
    )
    assert nearest + 1 < plane
    assert plane + 3 < sgbm


@pytest.mark.parametrize("turned", [False, True])
def test_sgbm_finds_the_true_depth(turned: bool) -> None:
    context, _, _ = two_planes_context(turned)
    _, truth = two_planes_views(context.cameras)
    depth, agreed = sgbm_depth(context.images, context.cameras)
    assert agreed.float().mean() > 0.8
    right = (depth / truth - 1).abs() < 0.05
    assert right[agreed].float().mean() > 0.97
    assert right.float().mean() > 0.9


def test_the_plane_is_exact_on_a_plane() -> None:
    cameras = two_planes_cameras()
    context, target, photo = two_planes_context()
    views = single_plane(replace(context, median_depth=WALL_DEPTH), target, SIZE)
    _, depth = two_planes_views(cameras[1:2])
    wall = (depth == WALL_DEPTH)[0] & (views.alpha[0] > 0)
    error = (views.color[0] - photo[0]).abs().mean(dim=0)
    away_from_the_board = wall.clone()
    away_from_the_board[14:82, 24:104] = False
    assert error[away_from_the_board].mean() < 0.03
    assert error[~wall].mean() > 0.1
    assert views.depth is not None
    torch.testing.assert_close(
        views.depth[0][wall], torch.full_like(views.depth[0][wall], WALL_DEPTH), rtol=0.02, atol=0
    )


def test_the_nearer_photo_is_copied() -> None:
    context, _, _ = two_planes_context()
    views = nearest_photo(context, context.cameras[[1, 0]], SIZE)
    torch.testing.assert_close(views.color, context.images[[1, 0]])


def test_median_depth_comes_from_matches() -> None:
    context, _, _ = two_planes_context()
    assert BOARD_DEPTH * 0.95 < context.median_depth < WALL_DEPTH * 1.05
    blank = torch.full_like(context.images, 0.5)
    middle = 2 / (1 / 1.4 + 1 / 6.0)
    assert median_depth(blank, context.cameras) == pytest.approx(middle, rel=1e-4)


def test_forward_motion_cannot_be_rectified() -> None:
    cameras = two_planes_cameras()[[0, 2]]
    pose = torch.eye(4).repeat(2, 1, 1)
    pose[1, 2, 3] = 0.4
    with pytest.raises(MethodFailed, match="viewing direction"):
        rectify(replace(cameras, camera_to_world=pose), *SIZE)
    pose[1, 2, 3] = 0
    with pytest.raises(MethodFailed, match="same place"):
        rectify(replace(cameras, camera_to_world=pose), *SIZE)


def test_rectified_rows_agree() -> None:
    cameras = two_planes_cameras()[[0, 2]]
    frame = rectify(cameras, *SIZE)
    points = torch.tensor([[0.3, -0.2, 3.0], [-0.4, 0.3, 5.0]], dtype=torch.float64)
    projected = cameras.to(torch.float64).project(points.expand(2, -1, -1))
    pixels = projected[..., :2] * torch.tensor([SIZE[1], SIZE[0]])
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)
    moved = homogeneous @ torch.from_numpy(frame.to_rectified_px).mT
    places = moved[..., :2] / moved[..., 2:]
    torch.testing.assert_close(places[0, :, 1], places[1, :, 1], atol=1e-3, rtol=0)
    turned = points @ torch.from_numpy(frame.world_to_rectified).T
    origin = cameras.positions[0].double() @ torch.from_numpy(frame.world_to_rectified).T
    depth = (turned - origin)[:, 2]
    expected = frame.focal_px * frame.baseline / depth + frame.offset_px
    torch.testing.assert_close(places[0, :, 0] - places[1, :, 0], expected, atol=1e-3, rtol=0)


def test_hidden_parts_are_not_seen_by_the_photos() -> None:
    cameras = two_planes_cameras((-0.5, 0.0))
    _, depth = two_planes_views(cameras)
    seen = seen_by_a_photo(depth[1:], cameras[1:], depth[:1], cameras[:1])[0]
    board = depth[1] < 3
    assert seen[board].float().mean() > 0.95
    columns = board.any(dim=0).nonzero()
    row = int(board.any(dim=1).nonzero().float().mean())
    # From the left, the board hides the wall to its right.
    right_edge = int(columns.max())
    assert not seen[row, right_edge + 3 : right_edge + 8].any()
    itself = seen_by_a_photo(depth[:1], cameras[:1], depth[:1], cameras[:1])
    assert itself.float().mean() > 0.99


def scene_points() -> torch.Tensor:
    """Points before the two planes' cameras, at several depths."""
    x, y = torch.meshgrid(torch.linspace(-0.8, 0.8, 5), torch.linspace(-0.6, 0.6, 4), indexing="ij")
    depth = 2.5 + 1.5 * torch.rand(20, generator=torch.Generator().manual_seed(0))
    return torch.stack([x.flatten(), y.flatten(), depth], dim=-1)


def in_frame_of_left(cameras: Cameras, points: torch.Tensor) -> torch.Tensor:
    pose = cameras.world_to_camera[0]
    return points @ pose[:3, :3].mT + pose[:3, 3]


def turned_right_camera(cameras: Cameras, degrees: float) -> Cameras:
    """The cameras with the right one turned about its y axis."""
    angle = math.radians(degrees)
    turn = torch.eye(4)
    turn[0, 0] = turn[2, 2] = math.cos(angle)
    turn[0, 2], turn[2, 0] = math.sin(angle), -math.sin(angle)
    pose = cameras.camera_to_world.clone()
    pose[1] = pose[1] @ turn
    return replace(cameras, camera_to_world=pose)


def test_aligned_estimate_forgets_frame_and_scale() -> None:
    stated = two_planes_cameras()[[0, 2]]
    moved = stated.relative().scaled(7.0)
    aligned = align(moved, stated, 7.0 * in_frame_of_left(stated, scene_points()))
    torch.testing.assert_close(
        aligned.cameras.camera_to_world, stated.camera_to_world, atol=1e-4, rtol=0
    )
    torch.testing.assert_close(aligned.cameras.near, stated.near)
    assert aligned.rotation_error_deg < 0.01
    assert aligned.direction_error_deg < 0.01
    again = aligned.from_left.of_cameras(stated)
    torch.testing.assert_close(again.camera_to_world, stated.camera_to_world, atol=1e-4, rtol=0)


def test_aligned_estimate_keeps_its_errors() -> None:
    stated = two_planes_cameras()[[0, 2]]
    wrong = turned_right_camera(stated, 2.0)
    aligned = align(wrong, stated, scene_points())
    assert aligned.rotation_error_deg == pytest.approx(2.0, abs=0.01)
    assert aligned.direction_error_deg < 0.01


def test_a_wrong_right_camera_is_wrong_for_both_photos_after_alignment() -> None:
    stated = two_planes_cameras()[[0, 2]]
    wrong = turned_right_camera(stated, 2.0)
    aligned = align(wrong, stated, scene_points())
    by_left = aligned.from_left.inverse().of_cameras(aligned.cameras)
    torch.testing.assert_close(
        by_left.camera_to_world[0], stated.camera_to_world[0], atol=1e-4, rtol=0
    )

    def largest_error(cameras: Cameras) -> float:
        # Points as the wrong cameras see them, wherever alignment has put both.
        placed = similarity_between(wrong, cameras).of_points(scene_points())
        seen = [c.project(placed[None].expand(2, -1, -1))[..., :2] for c in (cameras, stated)]
        return float((seen[0] - seen[1]).norm(dim=-1).mean(dim=1).max())

    assert largest_error(aligned.cameras) < 0.7 * largest_error(by_left)


def similarity_between(source: Cameras, target: Cameras) -> Similarity:
    """The change of frame that takes two cameras to where they stand in another one."""
    rotation = (target.camera_to_world[0, :3, :3] @ source.camera_to_world[0, :3, :3].mT).double()
    scale = float(baseline(target).norm() / baseline(source).norm())
    shift = target.positions[0].double() - scale * rotation @ source.positions[0].double()
    return Similarity(scale, rotation, shift)


def scores(value: float) -> Scores:
    return Scores(psnr=value, gain_corrected_psnr=value, ssim=0.5, coverage=1.0, mean_alpha=1.0)


def test_scenes_count_alike_however_many_views_they_have() -> None:
    views = [ViewScore("a", "p", str(i), "m", scores(10.0)) for i in range(5)]
    views.append(ViewScore("b", "p", "0", "m", scores(20.0)))
    means = scene_means(views, "m")
    assert mean_scores(means.values()).psnr == pytest.approx(15.0)


def test_wins_compare_shared_views_only() -> None:
    views = [
        ViewScore("a", "p", "0", "ours", scores(11.0)),
        ViewScore("a", "p", "1", "ours", scores(30.0)),
        ViewScore("b", "p", "0", "ours", scores(9.0)),
        ViewScore("a", "p", "0", "untrained", scores(10.0)),
        ViewScore("b", "p", "0", "untrained", scores(10.0)),
    ]
    wins = wins_over(views, "ours", "untrained")
    assert wins is not None
    assert (wins.scenes_won, wins.scenes, wins.views_won, wins.views) == (1, 2, 1, 2)
    assert wins.mean_difference == pytest.approx(0.0)
    assert wins_over(views, "ours", "nobody") is None


def test_bootstrap_is_deterministic_and_contains_the_mean() -> None:
    values = [20.13, 22.71, 28.32, 25.57, 19.11, 24.93, 21.29]
    interval = bootstrap_interval(values, seed=3)
    assert interval == bootstrap_interval(values, seed=3)
    assert interval != bootstrap_interval(values, seed=4)
    assert interval.low < interval.mean < interval.high
    assert min(values) <= interval.low
    assert interval.high <= max(values)
    alone = bootstrap_interval([5.0], seed=0)
    assert alone.low == alone.mean == alone.high == 5.0
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([], seed=0)


def test_equal_views_score_finitely() -> None:
    photo = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0))
    scored = score_view(photo, torch.ones(20, 20), photo, None)
    assert scored.psnr == 100.0
    assert scored.coverage == 1.0
    assert scored.seen_psnr is None


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    write_posed_folder(root / "planes")
    write_stereo_folder(root / "stereo_planes")
    (root / "empty").mkdir()
    return root


def test_folders_are_found_and_others_named(folders: Path) -> None:
    found = find_folders(folders)
    assert [p.name for p in found.posed] == ["planes"]
    assert [p.name for p in found.stereo] == ["stereo_planes"]
    assert list(found.skipped) == ["empty"]
    assert find_folders(folders / "planes").posed == [folders / "planes"]
    assert find_folders(folders, ["planes"]).stereo == []


def test_the_command_measures_writes_and_draws(folders: Path, tmp_path: Path) -> None:
    output, page = tmp_path / "metrics.json", tmp_path / "report.html"
    command = Evaluate(
        data=folders, output=output, model="none", size=128, html=page, cameras="given"
    )
    assert command.run() == 0
    document = json.loads(output.read_text())
    methods = document["cameras"]["given"]["methods"]
    assert list(methods) == ["nearest", "plane", "sgbm", "untrained"]
    value = {m: methods[m]["mean"]["gain_corrected_psnr"]["mean"] for m in methods}
    assert value["nearest"] < value["plane"] < value["sgbm"]
    assert value["untrained"] > value["plane"] + 3
    assert methods["untrained"]["mean"]["coverage"]["mean"] > 0.99
    assert methods["nearest"]["against_untrained"]["scenes_won"] == 0
    detail = document["cameras"]["given"]["details"][0]
    assert detail["scene"] == "planes"
    assert detail["targets"]["middle.png"]["plane"]["psnr"] == pytest.approx(
        methods["plane"]["scenes"]["planes"]["psnr"]
    )
    assert 0.8 < detail["targets"]["middle.png"]["plane"]["seen_share"] <= 1.0
    for errors in document["stereo"]["mean"].values():
        assert errors["end_point"] < 1.0
        assert errors["bad_2"] <= errors["bad_1"] < 0.15
    assert document["machine"]["cores"] >= 1
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == 3 + 2 + 3 * 3
    assert "http://" not in text
    assert "https://" not in text
    assert [p.name for p in tmp_path.iterdir() if p.suffix not in (".json", ".html")] == []


def test_larger_targets_are_scored_and_few_pairs_taken_if_asked_for(
    folders: Path, tmp_path: Path
) -> None:
    output = tmp_path / "metrics.json"
    command = Evaluate(
        data=folders / "planes", output=output, model="none", size=96, scale=2.0,
        pairs_per_scene=1, cameras="both",
    )  # fmt: skip
    assert command.run() == 0
    cameras = json.loads(output.read_text())["cameras"]
    for source, part in cameras.items():
        assert part["pairs"] == 1
        untrained = part["methods"]["untrained"]
        assert untrained["closer"]["mean"]["mean_alpha"]["mean"] > 0.9
        assert untrained["closer"]["mean"]["psnr"] != untrained["mean"]["psnr"]
        assert (untrained["left_aligned"] is None) == (source == "given")


def test_refinement_is_for_the_network_not_for_its_baseline(folders: Path, tmp_path: Path) -> None:
    values = []
    for steps in (0, 10):
        output = tmp_path / f"{steps}.json"
        command = Evaluate(data=folders / "planes", output=output, size=128, refine=steps)
        assert command.run() == 0
        document = json.loads(output.read_text())
        assert document["settings"]["refine"] == steps
        methods = document["cameras"]["given"]["methods"]
        values.append({m: v["mean"]["psnr"]["mean"] for m, v in methods.items()})
    plain, refined = values
    assert refined["model"] > plain["model"] + 0.3
    assert refined.pop("predicted") == plain.pop("model")
    del refined["model"]
    assert refined == plain


def test_networks_share_what_they_make_of_a_pair(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matched, predicted = [], []

    def match(images: torch.Tensor, cameras: Cameras) -> MatchingPrior:
        matched.append(images)
        return match_views(images, cameras)

    def predict(self: HiSplat, *arguments: Any, **named: Any) -> HiSplatOutput:
        predicted.append(self)
        return forward(self, *arguments, **named)

    forward = HiSplat.forward
    monkeypatch.setattr(networks, "match_views", match)
    monkeypatch.setattr(HiSplat, "forward", predict)
    command = Evaluate(data=folders / "planes", output=tmp_path / "m.json", size=96, refine=1)
    assert command.run() == 0
    assert len(matched) == 1
    assert len(predicted) == len(set(predicted)) == 2  # untrained, and predicted = model


def test_seconds_are_those_of_a_method_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def takes(seconds: float) -> str:
        nonlocal now
        now += seconds
        return "done"

    def predicted() -> str:
        work.once("prior", lambda: takes(1.0))
        return takes(2.0)

    monkeypatch.setattr("hisplat_app.evaluation.shared_work.time.perf_counter", lambda: now)
    work = SharedWork()
    assert work.timed(lambda: work.once("prior", lambda: takes(1.0))) == ("done", 1.0)
    assert work.timed(lambda: work.once("predicted", predicted)) == ("done", 3.0)
    assert work.timed(lambda: work.once("predicted", predicted) + takes(0.5)) == ("donedone", 3.5)
    assert now == 3.5


def test_the_command_gives_the_same_numbers_again(folders: Path, tmp_path: Path) -> None:
    documents = []
    for name in ("a.json", "b.json"):
        command = Evaluate(
            data=folders, output=tmp_path / name, model="none", size=96, scenes=("planes",)
        )
        assert command.run() == 0
        document = json.loads((tmp_path / name).read_text())
        documents.append({m: v["mean"] for m, v in document["cameras"]["given"]["methods"].items()})
    assert documents[0] == documents[1]


def test_refused_pairs_are_counted(tmp_path: Path) -> None:
    folder = write_posed_folder(tmp_path / "blank")
    for name in ("left.png", "right.png"):
        write_photo(folder / name, torch.full((3, *SIZE), 0.5))
    output = tmp_path / "metrics.json"
    command = Evaluate(data=folder, output=output, model="none", size=96, cameras="estimated")
    assert command.run() == 0
    estimated = json.loads(output.read_text())["cameras"]["estimated"]
    assert (estimated["pairs"], estimated["refused_pairs"]) == (1, 1)
    assert estimated["methods"] == {}
    assert "match" in estimated["details"][0]["refused"]


@pytest.mark.parametrize(
    ("known_lens", "largest_error_deg", "farthest"),
    [("intrinsics", 1.0, 0.1), ("focal", 1.0, 0.1), ("nothing", 10.0, 0.5)],
)
def test_estimated_cameras_lie_near_the_stated_ones(
    data_dir: Path, known_lens: KnownLens, largest_error_deg: float, farthest: float
) -> None:
    dataset = PosedFolderDataset(data_dir / "lund_door")
    stated = dataset[0].context_cameras
    found = estimate_cameras(dataset, 0, known_lens)
    assert found.rotation_error_deg < largest_error_deg
    assert found.direction_error_deg < largest_error_deg
    reach = (stated.positions[1] - stated.positions[0]).norm()
    assert (found.cameras.positions - stated.positions).norm(dim=-1).max() < farthest * reach
    by_left = found.from_left.inverse().of_cameras(found.cameras)
    torch.testing.assert_close(by_left.positions[0], stated.positions[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(baseline(by_left).norm(), reach)
    assert (found.cameras.near > 0.5 * stated.near).all()
    assert (found.cameras.far < 2 * stated.far).all()


def broken_cameras(root: Path) -> None:
    (root / "planes" / "cameras.json").write_text("{ not json")


def broken_photo(root: Path) -> None:
    (root / "planes" / "right.png").write_bytes(b"not a photo")


def no_data(root: Path) -> None:
    for name in ("cameras.json", "left.png", "middle.png", "right.png"):
        (root / "planes" / name).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (broken_cameras, "cameras.json"),
        (broken_photo, "right.png"),
        (no_data, "nothing to evaluate"),
    ],
)
def test_bad_data_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage, message: str
) -> None:
    write_posed_folder(tmp_path / "data" / "planes")
    damage(tmp_path / "data")
    output = tmp_path / "m.json"
    data = str(tmp_path / "data")
    assert (
        main(["evaluate", "--data", data, "--output", str(output), "--model", "none"]) == USER_ERROR
    )
    shown = "".join(capsys.readouterr().err.split())
    assert message.replace(" ", "") in shown
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere-at-all"], "nowhere-at-all"),
        (["--size", "8"], "--size"),
        (["--scale", "1"], "--scale"),
        (["--pairs-per-scene", "0"], "--pairs-per-scene"),
        (["--no-baselines"], "Nothing to evaluate"),
        (["--scenes", "elsewhere"], "elsewhere"),
        (["--model", "no-such-model"], "no-such-model"),
        (["--refine", "-1"], "--refine must be at least 0"),
        (["--refine", "5"], "--refine needs a network"),
        (["--html", "no-such-folder/page.html"], "no-such-folder"),
    ],
)
def test_bad_requests_are_explained(
    folders: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    usual = {"--data": str(folders), "--output": str(tmp_path / "m.json"), "--model": "none"}
    given = [x for key, value in usual.items() if key not in options for x in (key, value)]
    assert main(["evaluate", *given, *options]) == USER_ERROR
    shown = "".join(capsys.readouterr().err.split())
    assert message.replace(" ", "") in shown
