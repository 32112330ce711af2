"""Rendered faces through the real preparation: does it find the motion that was put in?"""

import csv
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from fedpsyau_client.preparation.clip_features import pair_features, prepare_pair
from fedpsyau_client.preparation.face_landmarks import FaceDetector
from fedpsyau_client.preparation.face_points import FacePoints
from fedpsyau_client.preparation.landmark_model import find_landmark_model
from fedpsyau_client.preparation.preparation import Preparation, prepare
from fedpsyau_client.splits import k_fold_by_subject
from fedpsyau_client.store.feature_store import open_feature_store
from fedpsyau_client.synthetic.clip_motion import ClipDraws
from fedpsyau_client.synthetic.face_identity import draw_site_shift, draw_subjects
from fedpsyau_client.synthetic.rendering.appearance import draw_camera, draw_look, skin
from fedpsyau_client.synthetic.rendering.base_face import ENLARGED, base_face
from fedpsyau_client.synthetic.rendering.clip_frames import draw_pose, motion_of_clip, render_frames
from fedpsyau_client.synthetic.rendering.clip_timing import draw_timing
from fedpsyau_client.synthetic.rendering.face_shape import shape_head
from fedpsyau_client.synthetic.rendering.frames_twin import FRAMES_FOLDER, write_frames
from fedpsyau_model.action_units import AUS
from fedpsyau_model.calibration import calibrate_batch_norm
from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.facial_points import canonical_points, facial_points
from fedpsyau_model.metrics import confusion_matrix, uf1
from fedpsyau_model.motion import resize_flow
from fedpsyau_model.network import build_network
from fedpsyau_model.schedules import epochs_alone
from fedpsyau_model.settings import LossSettings, NetworkSettings, TrainingSettings
from fedpsyau_model.training import predict, train

#: Where a unit shows, by FACS: the points that should carry the most motion.
POINTS_OF_UNIT = {
    1: {"brow_inner", "brow_body", "forehead_inner", "glabella"},
    4: {"brow_inner", "brow_body", "glabella"},
    12: {"mouth_corner", "nasolabial_fold_low", "cheek_beside_mouth", "upper_lip_outer"},
    15: {"mouth_corner", "below_mouth_corner", "lower_lip_outer", "upper_lip_outer"},
}


@pytest.fixture(scope="module")
def detector():
    with FaceDetector(find_landmark_model()) as each:
        yield each


def rendered_pair(au, seed, peak=1.2):
    """Onset and apex, RGB, of a new subject at a new site who shows one AU, and the truth."""
    generator = np.random.default_rng(seed)
    strength = np.zeros((1, len(AUS) + 2, 2), np.float32)
    strength[0, AUS.index(au)] = peak
    points = canonical_points()[None]
    still = ClipDraws(
        strength=strength,
        turn=np.zeros((1, len(AUS) + 2), np.float32),
        spread=np.ones(1, np.float32),
        points=points,
        seen_points=points,
        translation=np.zeros((1, 2), np.float32),
        gradient=np.zeros((1, 2, 2), np.float32),
        noise=np.ones(1, np.float32),
    )
    look = draw_look(generator)
    face = base_face(look.mirrored)
    head = shape_head(face, draw_subjects(1, generator).points[0])
    motion = motion_of_clip(head, still, draw_pose(generator))
    camera = draw_camera(draw_site_shift("dfme", generator), generator)
    texture = skin(face.image, look, generator)
    frames = render_frames(texture, motion, draw_timing(2, generator), camera, generator)
    onset, apex = (np.ascontiguousarray(frame[..., ::-1]) for frame in frames)
    return onset, apex, motion.truth


def agreement(found, true):
    """Mean cosine of two flows (2, H, W) where the true one exceeds a quarter of its peak."""
    size = np.hypot(*true)
    moving = size > size.max() / 4
    cosine = (found * true).sum(axis=0) / np.maximum(np.hypot(*found) * size, 1e-9)
    return cosine[moving].mean()


def test_the_stored_points_are_the_detector_s(detector):
    """Also a check of mirroring: the detector knows nothing of it."""
    for mirrored in (False, True):
        face = base_face(mirrored)
        seen = detector.find(np.ascontiguousarray(face.image[..., ::-1]))
        apart = np.hypot(*(seen.points - face.points).T) / ENLARGED
        assert apart.mean() < 1.0
        assert np.hypot(*(seen.eyes - face.eyes).T).max() / ENLARGED < 0.7


@pytest.mark.parametrize("au", POINTS_OF_UNIT)
@pytest.mark.parametrize("subjects", [2, pytest.param(6, marks=pytest.mark.slow)])
def test_tv_l1_finds_each_unit_where_it_was_put(detector, au, subjects):
    cosines, motion = [], np.zeros(len(facial_points()))
    for number in range(subjects):
        onset, apex, truth = rendered_pair(au, 100 * au + number)
        pair = prepare_pair(onset, apex, detector.find(onset), "tvl1")
        cosines.append(agreement(resize_flow(pair.flow[None], 128)[0], truth.flow))
        _, rois = pair_features(pair)
        motion += np.hypot(rois[:, 0], rois[:, 1]).mean(axis=(1, 2))
    assert np.mean(cosines) >= 0.95
    most = {facial_points()[index].name for index in np.argsort(-motion)[:2]}
    assert {name.removesuffix("_right").removesuffix("_left") for name in most} <= POINTS_OF_UNIT[
        au
    ]


def test_known_points_do_as_well_as_a_detector():
    """Alignment by the true points: what is left is the error of the flow alone."""
    onset, apex, truth = rendered_pair(12, 7)
    face = FacePoints(eyes=truth.onset_eyes.astype(float), points=truth.onset_points.astype(float))
    pair = prepare_pair(onset, apex, face, "dis")
    found = resize_flow(pair.flow[None], 128)[0]
    assert agreement(found, truth.flow) >= 0.97
    size = np.hypot(*truth.flow)
    moving = size > size.max() / 2
    assert 0.75 < np.hypot(*found)[moving].mean() / size[moving].mean() < 1.1


def prepared_site(folder, site, scale, seed, rows=None, **options):
    """Render a site, and prepare all of its clips or the first `rows` of its label table."""
    write_frames(folder, scale=scale, seed=seed, sites=[site], frames_per_clip=2)
    frames = folder / FRAMES_FOLDER / site
    if rows is not None:
        table = (frames / "labels.csv").read_text().splitlines()
        (frames / "labels.csv").write_text("\n".join(table[: rows + 1]))
    report = prepare(
        Preparation(
            dataset="synthetic-frames",
            labels=frames / "labels.csv",
            clips=frames / "clips",
            out=folder / "prepared",
            partition=site,
            **options,
        )
    )
    return report, open_feature_store(folder / "prepared" / site), frames


def mean_agreement(store, frames):
    """Of the 28 x 28 flow of every clip of a store with the truth beside its frames."""
    true = load_file(frames / "truth" / "motion.safetensors")["flow"].astype(np.float32)
    small = resize_flow(true, 28)
    return np.array(
        [agreement(found[:2], each) for found, each in zip(store.flow, small, strict=False)]
    )


@pytest.fixture(scope="module")
def small_site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "data"
    return prepared_site(folder, "casme3_c1", 0.001, seed=5, rows=12, flow="dis")


def test_a_rendered_site_becomes_a_synthetic_store(small_site):
    report, store, frames = small_site
    assert not report.failures
    assert store.manifest.synthetic
    assert store.manifest.dataset == "synthetic-frames"
    with (frames / "labels.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["emotion"] for row in rows] == list(store.clips.emotion)
    assert store.clips.au_known.all()
    written = [
        {int(unit.strip("LR")) for unit in row["au"].split("+") if unit != "none"} for row in rows
    ]
    stored = [
        {au for au, shows in zip(AUS, each, strict=True) if shows} for each in store.clips.aus
    ]
    assert written == stored


def test_the_store_holds_the_motion_that_was_put_in(small_site):
    _, store, frames = small_site
    found = mean_agreement(store, frames)
    assert found.mean() >= 0.95
    assert np.median(found) >= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("site", ["dfme_c2", "casme3_c2"])
def test_tv_l1_agrees_with_the_truth_at_whole_sites(tmp_path, site):
    report, store, frames = prepared_site(tmp_path, site, 0.001, seed=11, flow="tvl1")
    assert not report.failures
    assert mean_agreement(store, frames).mean() >= 0.95


@pytest.mark.slow
def test_the_network_learns_from_rendered_faces(tmp_path):
    """Three folds by subject, pooled. Always saying the commonest class gives about 0.27."""
    _, store, _ = prepared_site(tmp_path, "dfme_c1", 0.07, seed=0, flow="dis")
    assert len(store) == 97
    emotion = np.array([CLASS_NAMES["three"].index(each) for each in store.clips.class3])
    clips = ClipTensors(
        flow=torch.from_numpy(store.flow.copy()),
        rois=torch.from_numpy(store.rois.copy()),
        emotion=torch.from_numpy(emotion),
        au=torch.from_numpy(store.clips.aus.astype(np.float32)),
        au_known=torch.from_numpy(store.au_known()),
    )
    confusion = np.zeros((3, 3), dtype=np.int64)
    settings = TrainingSettings.model_validate({"batch-size": 16})
    plan = epochs_alone(15, settings)
    folds = k_fold_by_subject(store.clips.subject, 3, np.random.default_rng(0))
    for number, fold in enumerate(folds):
        training, held_out = (
            clips.subset(torch.from_numpy(rows)) for rows in (fold.train, fold.test)
        )
        network = build_network(NetworkSettings(), number)
        generator = torch.Generator().manual_seed(number)
        train(network, training, plan, training=settings, loss=LossSettings(), generator=generator)
        calibrate_batch_norm(network, training, plan[-1].prior_weight)
        predicted = predict(network, held_out, plan[-1].prior_weight).emotion.argmax(dim=1)
        confusion += confusion_matrix(held_out.emotion.numpy(), predicted.numpy(), 3)
    commonest = np.zeros((3, 3), dtype=np.int64)
    commonest[:, np.bincount(emotion).argmax()] = np.bincount(emotion)
    assert uf1(confusion) > uf1(commonest) + 0.15, confusion


def test_no_command_needs_opencv_to_say_what_it_can_do():
    """Rendering is imported by the command that renders, not by `fedpsyau data --help`."""
    code = "import sys, fedpsyau_client.data_commands; print('cv2' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
