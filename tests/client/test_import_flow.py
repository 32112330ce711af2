"""``fedpsyau data import-flow``: encodings, resizing, names, archives, and stores as a whole."""

import csv
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpsyau_client.data_commands.import_flow import import_flow
from fedpsyau_client.flow_import.archive_arrays import array_chunks, array_headers, read_array
from fedpsyau_client.flow_import.flow_encoding import (
    Channels,
    Encoding,
    decode,
    describe_channels,
    parse_channels,
    parse_encoding,
)
from fedpsyau_client.flow_import.flow_resizing import canonical_features, resize_smoothly
from fedpsyau_client.flow_import.image_folder import read_flow_image
from fedpsyau_client.flow_import.image_matching import (
    flow_images,
    match_names,
)
from fedpsyau_client.labels.clip_record import ClipRecord
from fedpsyau_client.store.feature_store import list_partitions, open_feature_store
from fedpsyau_model.action_units import AUS
from fedpsyau_model.errors import (
    ClipAmbiguousError,
    ClipError,
    ClipNotFoundError,
    DataNotFoundError,
    FedPsyAUError,
    FlowSourceError,
    LabelTableError,
    OutputExistsError,
    PreparationStoppedError,
    SettingsError,
    UnknownPartitionError,
)
from fedpsyau_model.facial_points import canonical_points
from fedpsyau_model.motion import motion_features, optical_strain

UVS = Channels(0, 1, 2)


# ---------------------------------------------------------------- what stored numbers mean


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("u,v,strain", Channels(0, 1, 2)),
        ("strain,v,u", Channels(2, 1, 0)),
        (" U , -v , other ", Channels(0, 1, None, (1, -1))),
    ],
)
def test_channels(text, channels):
    assert parse_channels(text) == channels


def test_channels_are_described_as_they_were_written():
    assert describe_channels(parse_channels("strain,-v,u")) == ["strain", "-v", "u"]


@pytest.mark.parametrize("text", ["", "u,v", "u,v,w", "u,u,strain", "u,v,-strain", "u,v,strain,x"])
def test_other_channels_are_refused(text):
    with pytest.raises(SettingsError, match="--channels"):
        parse_channels(text)


@pytest.mark.parametrize("text", ["", "minmax:1", "centred", "centred:0", "centred:nan", "zscore"])
def test_other_encodings_are_refused(text):
    with pytest.raises(SettingsError, match="--encoding"):
        parse_encoding(text)


def test_centred_levels_are_multiples_of_the_scale_from_128():
    images = np.full((1, 3, 28, 28), 128, dtype=np.uint8)
    images[0, 0, 3, 4] = 148
    images[0, 1, 3, 4] = 118
    images[0, 2, 3, 4] = 133
    flow, strain = decode(images, UVS, parse_encoding("centred:0.05"))
    assert flow[0, :, 3, 4] == pytest.approx([1.0, -0.5])
    assert np.count_nonzero(flow) == 2
    assert strain is None
    _, strain = decode(images, UVS, parse_encoding("centred:0.05:0.002"))
    assert strain[0, 0, 3, 4] == pytest.approx(0.266)


def test_minmax_takes_the_border_for_no_motion_and_the_range_for_one():
    images = np.full((1, 3, 28, 28), 100, dtype=np.uint8)
    images[0, 0, 10:18, 10:18] = 151
    images[0, 1, 10:18, 10:18] = 49
    images[0, 2] = 0
    images[0, 2, 12, 12] = 255
    flow, strain = decode(images, UVS, Encoding("minmax"))
    assert flow[0, :, 12, 12] == pytest.approx([0.2, -0.2])
    assert not flow[0, :, :10].any()
    assert strain[0, 0, 12, 12] == pytest.approx(1)
    assert parse_encoding("minmax").vector_size(300) == 28


def test_signs_and_order_of_channels():
    images = np.zeros((1, 3, 28, 28), dtype=np.float32)
    images[0] = np.array([0.5, 2, 3])[:, None, None]
    flow, strain = decode(images, parse_channels("strain,-v,u"), Encoding("pixels"))
    assert flow[0, :, 0, 0].tolist() == [3, -2]
    assert strain[0, 0, 0, 0] == 0.5


# ---------------------------------------------------------------- sizes and units


def test_one_pixel_of_28_is_128_28ths_of_a_pixel_on_the_patches_grid():
    flow = np.zeros((1, 2, 28, 28), dtype=np.float32)
    flow[:, 0] = 1
    stream, rois = canonical_features(flow, None, 28)
    assert (stream[0, 0] == 1).all()
    assert rois[0, :, 0] == pytest.approx(128 / 28)
    assert not stream[0, 1:].any()
    assert not rois[0, :, 1:].any()


def test_flow_of_28_comes_through_unchanged():
    flow = np.random.default_rng(0).normal(size=(2, 2, 28, 28)).astype(np.float32)
    stream, _ = canonical_features(flow, None, 28)
    assert np.array_equal(stream[:, :2], flow)


def test_vectors_counted_on_a_larger_face_are_scaled():
    flow = np.full((1, 2, 28, 28), 8, dtype=np.float32)
    stream, rois = canonical_features(flow, None, 224)
    assert stream[0, :2] == pytest.approx(1)
    assert rois[0, :, :2] == pytest.approx(8 * 128 / 224)


def test_a_stretched_face_has_its_strain_at_any_size():
    # u = 0.1 x on its own grid: exx = 0.1 and nothing else, whatever the grid. Enlarging flattens
    # the outermost half pixel, where nothing is known beyond; the points lie inside.
    for size in (28, 56, 128, 256):
        flow = np.zeros((1, 2, size, size), dtype=np.float32)
        flow[:, 0] = 0.1 * np.arange(size)
        stream, rois = canonical_features(flow, None, size)
        assert stream[0, 2, 2:-2, 2:-2] == pytest.approx(0.1, rel=0.005)
        assert rois[0, :, 2] == pytest.approx(0.1, rel=0.005)


def test_a_given_strain_is_used_as_it_is():
    flow = np.zeros((1, 2, 28, 28), dtype=np.float32)
    strain = np.full((1, 1, 28, 28), 0.25, dtype=np.float32)
    stream, rois = canonical_features(flow, strain, 28)
    assert stream[0, 2] == pytest.approx(0.25)
    assert rois[0, :, 2] == pytest.approx(0.25)


def test_large_flow_gives_what_preparation_gives():
    flow = np.random.default_rng(1).normal(size=(2, 2, 256, 256)).astype(np.float32)
    stream, rois = canonical_features(flow, None, 256)
    points = (canonical_points()[None] + 0.5) * 2 - 0.5
    expected_stream, expected_rois = motion_features(flow, points)
    assert rois == pytest.approx(expected_rois, abs=1e-6)
    assert stream == pytest.approx(expected_stream, abs=1e-6)


def test_enlarging_agrees_with_opencv():
    image = np.random.default_rng(2).normal(size=(1, 1, 37, 37)).astype(np.float32)
    expected = cv2.resize(image[0, 0], (128, 128), interpolation=cv2.INTER_LINEAR)
    assert resize_smoothly(image, 128)[0, 0] == pytest.approx(expected, abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 3),
    size=st.integers(28, 160),
    encoding=st.sampled_from(["minmax", "centred:0.1", "centred:0.1:0.01"]),
    seed=st.integers(0, 99),
)
def test_any_image_gives_finite_features_of_the_right_shape(count, size, encoding, seed):
    images = np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    known = parse_encoding(encoding)
    flow, strain = decode(images, UVS, known)
    stream, rois = canonical_features(flow, strain, known.vector_size(size))
    assert stream.shape == (count, 3, 28, 28)
    assert rois.shape == (count, 65, 3, 5, 5)
    assert np.isfinite(stream).all()
    assert np.isfinite(rois).all()
    assert (rois[:, :, 2] >= 0).all()


# ---------------------------------------------------------------- images by name


def clip(subject, filename, onset=None, **more):
    return ClipRecord(
        **({"row": 2, "apex": None, "offset": None, "emotion": "", "emotion_label": ""} | more),
        aus=None,
        subject=subject,
        filename=filename,
        onset=onset,
    )


@pytest.mark.parametrize(
    ("record", "names", "match"),
    [
        (clip("s1", "a", 10), ["s1_a_10.png", "s1_a.png", "a.png"], 0),
        (clip("s1", "a", 10), ["deep/er/S1/A_10.PNG"], 0),
        (clip("s1", "a", 10), ["s1/a/10.png", "s1/a/30.png"], 0),
        (clip("s1", "a", 10), ["s2/a.png", "s1/a.png"], 1),
        (clip("s1", "a", 10), ["a_10.png", "a_30.png"], 0),
        (clip("s1", "a"), ["x/a.jpg"], 0),
        (clip("s1", "a.avi"), ["a.bmp"], 0),
        (clip("s1", "x/a"), ["s1_x_a.png"], 0),
        (clip("s1", "a", flow_image="b/c.png"), ["s1_a.png", "b/c.png"], 1),
        (clip("s1", "a", flow_image="b/d.png"), ["s1_a.png"], ClipNotFoundError),
        (clip("s1", "a", 30), ["s1_a_10.png"], ClipNotFoundError),
        (clip("s1", "a"), ["x/a.png", "y/a.png"], ClipAmbiguousError),
        (clip("s1", "a"), ["a.png", "a.jpg"], ClipAmbiguousError),
    ],
)
def test_images_are_found_by_name(record, names, match):
    found = match_names([record], names)[0]
    assert found == match or (isinstance(match, type) and type(found) is match)


def test_an_image_of_two_clips_is_nobodys():
    records = [clip("s1", "a"), clip("s2", "a"), clip("s2", "b")]
    first, second, third = match_names(records, ["a.png", "b.png"])
    assert type(first) is type(second) is ClipAmbiguousError
    assert third == 1


def test_links_hidden_files_and_other_files_are_passed_over(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("in/a.PNG", "in/b.txt", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "in" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert flow_images(tmp_path) == ["in/a.PNG"]


def write_image(file, red_green_blue):
    file.parent.mkdir(parents=True, exist_ok=True)
    _, data = cv2.imencode(file.suffix, np.moveaxis(red_green_blue, 0, -1)[:, :, ::-1])
    data.tofile(file)


def test_channels_are_those_of_the_file_not_of_opencv(tmp_path):
    image = np.zeros((3, 28, 28), dtype=np.uint8)
    image[:] = np.array([10, 20, 30])[:, None, None]
    image[:, 5, 9] = 200
    for name in ("ä.png", "b.bmp"):
        write_image(tmp_path / name, image)
        assert np.array_equal(read_flow_image(tmp_path / name), image)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((28, 28), np.uint8), "one channel"),
        (np.zeros((28, 28, 3), np.uint16), "not 8-bit"),
        (np.zeros((28, 40, 3), np.uint8), "square"),
        (np.zeros((27, 27, 3), np.uint8), "27x27"),
        (np.zeros((2049, 2049, 3), np.uint8), "2049x2049"),
    ],
)
def test_other_images_are_refused(tmp_path, image, says):
    cv2.imwrite(str(tmp_path / "a.png"), image)
    with pytest.raises(ClipError, match=says):
        read_flow_image(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_what_is_no_image_is_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ClipError, match=r"a\.png"):
        read_flow_image(tmp_path / "a.png")


# ---------------------------------------------------------------- archives


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_chunks_are_what_numpy_reads(tmp_path, save):
    flow = np.random.default_rng(0).normal(size=(7, 3, 4, 4))
    text = np.array(["ä", "bc", ""])
    square = np.asfortranarray(np.arange(6).reshape(2, 3))
    save(tmp_path / "a.npz", flow=flow, TEXT=text, square=square)
    headers = array_headers(tmp_path / "a.npz")
    assert headers["flow"].shape == (7, 3, 4, 4)
    chunks = list(array_chunks(tmp_path / "a.npz", "flow", 3))
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    assert np.array_equal(np.concatenate(chunks), flow)
    assert read_array(tmp_path / "a.npz", "text").tolist() == text.tolist()
    assert np.array_equal(read_array(tmp_path / "a.npz", "square"), square)


def test_pickled_objects_are_never_read(tmp_path):
    np.savez(tmp_path / "a.npz", label=np.array([{"a": 1}], dtype=object))
    with pytest.raises(FlowSourceError, match="Python objects in label"):
        array_headers(tmp_path / "a.npz")


def archive(count=6, size=28, **arrays):
    """Arrays of a small archive that can be imported."""
    emotions = ["happiness", "surprise", "disgust", "anger", "others", "negative"]
    generator = np.random.default_rng(count)
    flow = generator.normal(size=(count, 3, size, size)).astype(np.float32)
    flow[:, 2] = abs(flow[:, 2])
    own = {
        "flow": flow,
        "label": np.array([emotions[row % 6] for row in range(count)]),
        "subject": np.array([f"Person {row // 2}" for row in range(count)]),
    }
    return {name: value for name, value in (own | arrays).items() if value is not None}


def save(file, arrays):
    np.savez(file, **arrays)
    return file


def test_an_archive_becomes_a_store(tmp_path):
    arrays = archive(AUs=np.array(["1+2", "R12", "", "none", "ref(4)", "99"]))
    import_flow(save(tmp_path / "a.npz", arrays), tmp_path / "out", dataset="lab")
    store = open_feature_store(tmp_path / "out" / "lab")
    assert np.array_equal(store.flow, arrays["flow"])
    assert store.clips.emotion.tolist() == [*("happiness", "surprise", "disgust", "anger", "", "")]
    assert store.clips.class3.tolist() == [
        *("positive", "surprise", "negative", "negative", "", "negative")
    ]
    assert store.clips.class7.tolist() == store.clips.emotion.tolist()
    assert store.clips.au_known.tolist() == [True, True, False, True, True, True]
    assert store.clips.aus.sum(axis=1).tolist() == [2, 1, 0, 0, 1, 0]
    assert store.clips.aus[1, AUS.index(12)] == 1
    assert store.clips.subject.tolist() == ["s001", "s001", "s002", "s002", "s003", "s003"]
    preprocessing = store.manifest.preprocessing
    assert preprocessing["roi_source"] == "canonical-points-on-upscaled-flow"
    assert (preprocessing["units"], preprocessing["strain"]) == ("pixels", "given")
    with (tmp_path / "out" / ".lab.work" / "ids.csv").open(newline="") as stream:
        assert next(csv.DictReader(stream))["original_subject"] == "Person 0"
    assert "Person 0" not in "".join(file.read_text("latin-1") for file in store.folder.iterdir())


def test_sites_become_stores(tmp_path):
    arrays = archive(6, 130, site=np.array(["b", "b", "a", "a", "b", "b"]))
    import_flow(save(tmp_path / "a.npz", arrays), tmp_path / "out", recompute_strain=True)
    assert list_partitions(tmp_path / "out") == ["a", "b"]
    store = open_feature_store(tmp_path / "out" / "b")
    assert store.clips.clip.tolist() == ["c00001", "c00002", "c00005", "c00006"]
    assert store.manifest.preprocessing["roi_source"] == "canonical-points"
    assert store.manifest.preprocessing["strain"] == "computed"
    with (tmp_path / "out" / ".a.work" / "ids.csv").open(newline="") as stream:
        assert {row["original_subject"] for row in csv.DictReader(stream)} == {"Person 1"}
    import_flow(tmp_path / "a.npz", tmp_path / "out", partition="all")
    assert len(open_feature_store(tmp_path / "out" / "all")) == 6


def test_numbers_need_names(tmp_path):
    file = save(tmp_path / "a.npz", archive(4, label=np.array([2, 0, 1, -1])))
    with pytest.raises(SettingsError, match="--class-names"):
        import_flow(file, tmp_path / "out")
    import_flow(file, tmp_path / "out", class_names="three")
    clips = open_feature_store(tmp_path / "out" / "imported").clips
    assert clips.class3.tolist() == ["surprise", "negative", "positive", ""]
    assert clips.emotion.tolist() == ["surprise", "", "", ""]
    import_flow(file, tmp_path / "out", class_names="anger,fear,happiness", partition="other")
    clips = open_feature_store(tmp_path / "out" / "other").clips
    assert clips.emotion.tolist() == ["happiness", "anger", "fear", ""]


def test_numbered_aus_know_uncoded_clips(tmp_path):
    aus = np.zeros((4, 12))
    aus[0, 3] = 1
    aus[1] = -1
    aus[2] = np.nan
    import_flow(save(tmp_path / "a.npz", archive(4, aus=aus)), tmp_path / "out")
    clips = open_feature_store(tmp_path / "out" / "imported").clips
    assert clips.au_known.tolist() == [True, False, False, True]
    assert clips.aus.sum() == clips.aus[0, 3] == 1


def test_clips_with_unusable_numbers_are_left_out(tmp_path):
    arrays = archive(12)
    arrays["flow"][3, 0, 4, 4] = np.nan
    arrays["flow"][5, 2] *= -1
    import_flow(save(tmp_path / "a.npz", arrays), tmp_path / "out")
    store = open_feature_store(tmp_path / "out" / "imported")
    assert len(store) == 10
    assert store.manifest.preprocessing["failed"] == {"flow-numbers": 2}
    with (tmp_path / "out" / ".imported.work" / "failures.csv").open(newline="") as stream:
        assert [row["row"] for row in csv.DictReader(stream)] == ["4", "6"]


@pytest.mark.parametrize(
    ("arrays", "error", "says"),
    [
        ({"flow": None}, FlowSourceError, "no array flow"),
        ({"label": None}, FlowSourceError, "no array label"),
        ({"subject": None}, FlowSourceError, "no array subject"),
        ({"flow": np.zeros((6, 28, 28, 3))}, FlowSourceError, "must be"),
        ({"flow": np.zeros((0, 3, 28, 28))}, FlowSourceError, "at least one"),
        ({"flow": np.zeros((6, 3, 20, 20))}, FlowSourceError, "20x20"),
        ({"flow": np.zeros((6, 3, 28, 28), np.int16)}, FlowSourceError, "int16"),
        ({"flow": np.zeros((6, 3, 28, 28), order="F")}, FlowSourceError, "Fortran"),
        ({"flow": np.full((6, 3, 28, 28), np.nan)}, PreparationStoppedError, "not one clip"),
        ({"flow": np.full((6, 3, 28, 28), 1e300)}, PreparationStoppedError, "not one clip"),
        ({"label": np.array(["happy"] * 5)}, FlowSourceError, "6 clips"),
        ({"label": np.array(["joyous"] * 6)}, FlowSourceError, "'joyous'"),
        ({"label": np.zeros((6, 1))}, FlowSourceError, "6 clips"),
        ({"label": np.array([1j] * 6)}, FlowSourceError, "complex"),
        ({"subject": np.array(["a"] * 5 + [" "])}, FlowSourceError, "clip 6 has no subject"),
        ({"site": np.array(["a", "b"] * 3)}, LabelTableError, "more than one site"),
        ({"site": np.array(["../x"] * 6)}, UnknownPartitionError, "'../x'"),
        ({"site": np.array(["x"] * 4 + [""] * 2)}, LabelTableError, "names no site"),
        ({"aus": np.full((6, 12), 2)}, FlowSourceError, "0 and 1"),
        ({"aus": np.zeros((6, 11))}, FlowSourceError, "must be"),
        ({"aus": np.array(["smile"] * 6)}, FlowSourceError, "smile"),
    ],
)
def test_archives_that_cannot_be_used_are_explained(tmp_path, arrays, error, says):
    with pytest.raises(error, match=says):
        import_flow(save(tmp_path / "a.npz", archive(**arrays)), tmp_path / "out")
    assert not (tmp_path / "out").exists() or list_partitions(tmp_path / "out") == []


def test_label_numbers_beyond_the_names_are_refused(tmp_path):
    file = save(tmp_path / "a.npz", archive(2, label=np.array([0, 3])))
    with pytest.raises(FlowSourceError, match="clip 2 has the label 3"):
        import_flow(file, tmp_path / "out", class_names="three")


def test_normalised_numbers_are_told_from_displacements(tmp_path, capsys):
    arrays = archive(4)
    import_flow(save(tmp_path / "a.npz", arrays), tmp_path / "signed")
    assert "notice" not in capsys.readouterr().err
    arrays["flow"] = abs(arrays["flow"])
    import_flow(save(tmp_path / "b.npz", arrays), tmp_path / "unsigned")
    assert "Displacements have signs" in capsys.readouterr().err


def test_a_missing_archive_is_explained(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"no archive .*a\.npz"):
        import_flow(tmp_path / "a.npz", tmp_path / "out")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_damaged_archives_work_or_raise_a_typed_error(tmp_path_factory, seed):
    generator = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("damaged")
    data = bytearray(save(folder / "a.npz", archive(2)).read_bytes())
    if seed % 3 == 0:
        data = data[: generator.integers(len(data))]
    elif seed % 3 == 1:
        # Where the headers of members and of the archive stand.
        for _ in range(4):
            data[generator.integers(200)] = generator.integers(256)
            data[-1 - generator.integers(300)] = generator.integers(256)
    else:
        for _ in range(20):
            data[generator.integers(len(data))] = generator.integers(256)
    (folder / "a.npz").write_bytes(data)
    try:
        import_flow(folder / "a.npz", folder / "out")
    except FedPsyAUError:
        assert not (folder / "out" / "imported").exists()
    else:
        open_feature_store(folder / "out" / "imported")


# ---------------------------------------------------------------- folders of images


@pytest.fixture
def lab(tmp_path):
    """Ten clips of five subjects at two sites: a table, and an image of 40x40 for each."""
    rows = [("subject", "filename", "onset", "apex", "emotion", "au", "site")]
    generator = np.random.default_rng(0)
    for number in range(10):
        subject, site = f"Ann {number // 2}", "east" if number < 4 else "west"
        rows.append((subject, f"v{number}", 10, 15, "fear", "4+R12", site))
        image = generator.integers(0, 256, (3, 40, 40), dtype=np.uint8)
        write_image(tmp_path / "images" / subject / f"V{number}_10.png", image)
    with (tmp_path / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return tmp_path


def import_lab(lab, **options):
    options = {"channels": "strain,v,u", "encoding": "centred:0.02"} | options
    import_flow(lab / "images", lab / "out", labels=lab / "labels.csv", **options)


def test_a_folder_becomes_stores(lab):
    import_lab(lab, flow_size=224)
    assert list_partitions(lab / "out") == ["east", "west"]
    store = open_feature_store(lab / "out" / "west")
    assert (len(store), store.manifest.counts.subjects) == (6, 3)
    image = read_flow_image(lab / "images" / "Ann 2" / "V4_10.png").astype(np.float32)
    pixels = (image[[2, 1]] - 128) * 0.02
    area = cv2.resize(np.moveaxis(pixels, 0, -1), (28, 28), interpolation=cv2.INTER_AREA)
    expected = np.moveaxis(area, -1, 0) * 28 / 224
    assert store.flow[0, :2] == pytest.approx(expected, abs=1e-5)
    large = resize_smoothly(pixels[None], 128) * 128 / 224
    assert store.flow[0, 2].mean() == pytest.approx(optical_strain(large).mean(), rel=1e-4)
    preprocessing = store.manifest.preprocessing
    assert preprocessing["channels"] == ["strain", "v", "u"]
    assert (preprocessing["strain"], preprocessing["vector_grid"]) == ("computed", 224)
    assert store.clips.aus.sum(axis=1).tolist() == [2] * 6


def test_few_failures_are_listed_and_many_stop(lab):
    (lab / "images" / "Ann 4" / "V9_10.png").write_bytes(b"damaged")
    import_lab(lab)
    west = open_feature_store(lab / "out" / "west")
    assert west.manifest.preprocessing["failed"] == {"frame-unreadable": 1}
    assert "c00010" not in west.clips.clip
    for number in (4, 5):
        (lab / "images" / "Ann 2" / f"V{number}_10.png").unlink()
    before = west.manifest.data_hash
    with pytest.raises(PreparationStoppedError, match=r"3 of 10 clips .* at most 20%"):
        import_lab(lab, overwrite=True)
    assert open_feature_store(lab / "out" / "west").manifest.data_hash == before
    import_lab(lab, overwrite=True, max_failures=0.5)
    assert len(open_feature_store(lab / "out" / "west")) == 3


def test_stores_that_are_there_are_kept(lab):
    import_lab(lab)
    with pytest.raises(OutputExistsError, match="east, west"):
        import_lab(lab)


def test_images_of_nobody_are_told(lab, capsys):
    write_image(lab / "images" / "v99_10.png", np.zeros((3, 40, 40), np.uint8))
    import_lab(lab)
    assert "1 images belong to no clip" in " ".join(capsys.readouterr().err.split())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_damaged_images_are_read_or_refused(tmp_path_factory, seed):
    generator = np.random.default_rng(seed)
    file = tmp_path_factory.mktemp("image") / f"a{['.png', '.jpg', '.bmp'][seed % 3]}"
    write_image(file, generator.integers(0, 256, (3, 30, 30), dtype=np.uint8))
    data = bytearray(file.read_bytes())
    for _ in range(generator.integers(1, 20)):
        data[generator.integers(min(len(data), 200 if seed % 2 else len(data)))] = (
            generator.integers(256)
        )
    file.write_bytes(data[: generator.integers(len(data))] if seed % 5 == 0 else data)
    try:
        image = read_flow_image(file)
    except ClipError as error:
        assert file.name in str(error)  # noqa: PT017
    else:
        assert image.dtype == np.uint8
        assert image.shape[0] == 3


def test_images_alone_have_no_labels(lab):
    with pytest.raises(SettingsError, match="--labels"):
        import_flow(lab / "images", lab / "out")


def test_levels_of_unknown_meaning_count_no_pixels(lab):
    with pytest.raises(SettingsError, match="--flow-size 224"):
        import_lab(lab, encoding="minmax", flow_size=224)


def test_an_unknown_data_set_is_explained(lab):
    with pytest.raises(SettingsError, match="--dataset mylab"):
        import_lab(lab, dataset="mylab")


def test_an_empty_folder_is_explained(lab):
    (lab / "empty").mkdir()
    with pytest.raises(DataNotFoundError, match="holds no image"):
        import_flow(lab / "empty", lab / "out", labels=lab / "labels.csv")


def test_an_archive_can_take_its_labels_from_a_table(lab):
    arrays = archive(
        10, label=None, subject=None, clip=np.array([f"V{n}" for n in range(10)][::-1])
    )
    import_flow(
        save(lab / "a.npz", arrays),
        lab / "out",
        labels=lab / "labels.csv",
        partition="lab",
    )
    store = open_feature_store(lab / "out" / "lab")
    assert store.clips.clip.tolist() == [f"c{n:05d}" for n in range(1, 11)]
    assert np.array_equal(store.flow, arrays["flow"][::-1])


def test_the_command_prints_stores_or_json(lab):
    code = (
        "from fedpsyau_client.data_commands import app;"
        "from fedpsyau_model.command_line import run_command; run_command(app)"
    )
    options = ["--labels", lab / "labels.csv", "--dataset", "csv", "--out", lab / "out"]
    command = [sys.executable, "-c", code, "import-flow", lab / "images", *options]
    first = subprocess.run(
        [*map(str, command), "--json"], capture_output=True, text=True, timeout=120, check=False
    )
    assert first.returncode == 0, first.stderr
    made = json.loads(first.stdout)["stores"]
    assert [(each["partition"], each["clips"]) for each in made] == [("east", 4), ("west", 6)]
    again = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=120, check=False
    )
    assert again.returncode == OutputExistsError.exit_code
    assert "Traceback" not in again.stderr
