"""``fedpsyau data look``: colours that say the right direction, and pictures of both kinds."""

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from fedpsyau_client.data_commands.look import look
from fedpsyau_client.look.clip_picture import draw_clip
from fedpsyau_client.look.flow_colours import colour_scale, colour_wheel, flow_to_rgb
from fedpsyau_client.look.panels import draw_points
from fedpsyau_client.look.stored_picture import draw_stored_clip
from fedpsyau_client.preparation.clip_features import prepare_pair
from fedpsyau_client.store.clip_table import ClipTable
from fedpsyau_client.store.feature_store import open_feature_store, write_feature_store
from fedpsyau_model.action_units import AU_GROUP_SIZES
from fedpsyau_model.errors import (
    DataNotFoundError,
    FrameUnreadableError,
    NoFaceError,
    SettingsError,
)
from fedpsyau_model.facial_points import canonical_points


@pytest.mark.parametrize(
    ("vector", "colour"),
    [
        ((0, 0), (1, 1, 1)),
        ((2, 0), (1, 0, 0)),
        ((9, 0), (1, 0, 0)),
        ((1, 0), (1, 0.5, 0.5)),
        ((0, 2), (0.5, 1, 0)),
        ((-2, 0), (0, 1, 1)),
        ((0, -2), (0.5, 0, 1)),
    ],
)
def test_colours_of_directions(vector, colour):
    flow = np.array(vector, dtype=np.float32)[:, None, None]
    assert flow_to_rgb(flow, 2)[0, 0] == pytest.approx(colour)


def test_the_wheel_shows_each_direction_where_it_points():
    wheel = colour_wheel(101)
    assert wheel[50, 99, :3] == pytest.approx((1, 0, 0), abs=0.05)  # right
    assert wheel[99, 50, :3] == pytest.approx((0.5, 1, 0), abs=0.05)  # down
    assert wheel[50, 50, :3] == pytest.approx((1, 1, 1))
    assert wheel[0, 0, 3] == 0


def test_the_scale_passes_outliers_over_and_is_never_zero():
    flow = np.zeros((2, 100, 100), dtype=np.float32)
    assert colour_scale(flow) == 1
    flow[0] = 3
    flow[0, 0, 0] = 500
    assert colour_scale(flow) == pytest.approx(3)


def test_every_group_has_its_points_and_colour():
    axes = Figure().subplots()
    draw_points(axes, canonical_points(), 8)
    backs, *groups = axes.collections
    assert len(backs.get_offsets()) == 65
    assert tuple(len(group.get_offsets()) for group in groups) == AU_GROUP_SIZES
    assert len({tuple(group.get_facecolor()[0]) for group in groups}) == 4


def test_a_clip_is_drawn_with_what_was_measured(astronaut, astronaut_face):
    pair = prepare_pair(astronaut, np.roll(astronaut, 1, axis=1), astronaut_face, "dis")
    figure = draw_clip(pair, "frames 1 to 2")
    assert "contains a face" in figure.get_suptitle()
    titles = [axes.get_title() for axes in figure.axes]
    assert {"apex, same alignment", "optical flow, onset to apex", "optical strain"} <= set(titles)
    flow = figure.axes[titles.index("optical flow, onset to apex")]
    # All of it moved to the right by a pixel, which is red, and arrows point there.
    colours = np.asarray(flow.images[0].get_array())[100:130, 100:130]
    assert colours.mean(axis=(0, 1)) == pytest.approx((1, 0.15, 0.15), abs=0.2)
    arrows = next(each for each in flow.collections if hasattr(each, "U"))
    assert (arrows.U > 0).mean() > 0.9


def test_the_command_draws_images_folders_and_videos(astronaut, write_png, tmp_path, capsys):
    moved = np.roll(astronaut, -1, axis=0)
    onset = write_png(tmp_path / "clip" / "f3.png", astronaut)
    apex = write_png(tmp_path / "clip" / "f9.png", moved)
    look(onset, apex, flow="dis", out=tmp_path / "a" / "two.png")
    look(tmp_path / "clip", onset=3, apex=9, flow="dis", out=tmp_path / "folder.png")
    video = cv2.VideoWriter(
        str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"FFV1"), 30, astronaut.shape[1::-1]
    )
    for frame in (astronaut, moved):
        video.write(np.ascontiguousarray(frame[..., ::-1]))
    video.release()
    look(tmp_path / "v.avi", onset=1, apex=2, flow="dis", out=tmp_path / "video.png")
    for name in ("a/two.png", "folder.png", "video.png"):
        height, width = cv2.imread(str(tmp_path / name)).shape[:2]
        assert width > height > 700
    assert "keep it at the site" in capsys.readouterr().err


def test_mistakes_with_clips_are_explained(astronaut, write_png, tmp_path):
    write_png(tmp_path / "clip" / "f3.png", astronaut)
    blank = write_png(tmp_path / "blank" / "f1.png", np.zeros((200, 200, 3), np.uint8))
    out = tmp_path / "out.png"
    with pytest.raises(SettingsError, match="--onset N and --apex N"):
        look(tmp_path / "clip", out=out)
    with pytest.raises(SettingsError, match="--clip c00001"):
        look(tmp_path / "clip", stored="c00001", out=out)
    with pytest.raises(FrameUnreadableError):
        look(tmp_path / "nowhere", onset=1, apex=2, out=out)
    with pytest.raises(NoFaceError):
        look(blank, blank, out=out)
    assert not out.exists()


@pytest.fixture
def store(tmp_path):
    """Two synthetic clips; the face of the second moves to the right."""
    generator = np.random.default_rng(0)
    flow = generator.normal(0, 0.05, (2, 3, 28, 28))
    flow[1, 0] += 1
    flow[:, 2] = abs(flow[:, 2])
    rois = np.zeros((2, 65, 3, 5, 5))
    rois[1, :, 0] = 128 / 28
    clips = ClipTable(
        clip=np.array(["c00001", "c00002"]),
        subject=np.array(["s001", "s002"]),
        emotion=np.array(["", "anger"]),
        class3=np.array(["negative", "negative"]),
        class7=np.array(["", "anger"]),
        au_known=np.array([False, True]),
        aus=np.eye(2, 12, 1, dtype=np.uint8) * np.array([[0], [1]], dtype=np.uint8),
    )
    write_feature_store(
        tmp_path / "lab",
        partition="lab",
        dataset="lab",
        synthetic=True,
        clips=clips,
        flow=flow,
        rois=rois,
        preprocessing={},
    )
    return open_feature_store(tmp_path / "lab")


def test_stored_features_are_drawn_on_a_canonical_face(store):
    figure = draw_stored_clip(store, "c00002")
    assert figure.get_suptitle() == "SYNTHETIC, lab, c00002: anger; AU4"
    face = figure.axes[2]
    arrows = next(each for each in face.collections if hasattr(each, "U"))
    vectors = np.stack([arrows.U, arrows.V], axis=1)
    assert vectors == pytest.approx(np.tile([128 / 28, 0], (65, 1)))
    assert face.get_ylim() == (128, 0)  # down is down
    assert "negative; AUs not coded" in draw_stored_clip(store, "c00001").get_suptitle()


def test_the_command_draws_stored_features_without_a_notice(store, tmp_path, capsys):
    look(store.folder, stored="c00001", out=tmp_path / "stored.png")
    assert cv2.imread(str(tmp_path / "stored.png")) is not None
    assert capsys.readouterr().err == ""


def test_mistakes_with_stores_are_explained(store, tmp_path):
    with pytest.raises(DataNotFoundError, match="c00001 to c00002"):
        look(store.folder, stored="c7", out=tmp_path / "stored.png")
    with pytest.raises(SettingsError, match="--clip c00001"):
        look(store.folder, out=tmp_path / "stored.png")
