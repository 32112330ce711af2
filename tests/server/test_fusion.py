"""P-FedProx as a pure function, against numbers worked out by hand and an independent oracle."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from fedpsyau_model.errors import RunFolderError
from fedpsyau_server import fusion, packed_model
from fedpsyau_server.fusion import Contribution, Model, Theta, mixing_matrix
from fedpsyau_server.packed_model import (
    PIECE,
    ModelFile,
    ModelInMemory,
    unpacked,
)
from fedpsyau_server.packed_model import packed as whole

CLIPS = {"a": 10, "b": 30, "c": 60}

#: How far a float32 number may be off, in parts of the largest number of its tensor at any site,
#: where no site has most of the clips.
ROUNDING = 2e-7

#: The same for float64: 35 times its half unit in the last place, the bound in `fusion`'s words.
ROUNDING_OF_DOUBLES = 35 * 2.0**-53


def packed(model: Model) -> ModelInMemory:
    return ModelInMemory.of(model)


def fuse_personalised(contributions: Mapping[str, Contribution], theta: Theta) -> dict[str, Model]:
    fused = fusion.fuse_personalised(contributions, theta)
    return {site: unpacked(model) for site, model in fused.items()}


def fuse_mean(contributions: Mapping[str, Contribution]) -> Model:
    return unpacked(fusion.fuse_mean(contributions))


def contribution(value: float, clips: int) -> Contribution:
    return Contribution(packed({"w": np.full((2, 2), value, dtype=np.float32)}), clips)


def random_contributions(clips: Mapping[str, int], seed: int = 0) -> dict[str, Contribution]:
    generator = np.random.default_rng(seed)
    return {
        site: Contribution(
            packed(
                {
                    "conv.weight": generator.normal(size=(3, 4, 2)).astype(np.float32),
                    "bias": generator.normal(scale=1e-3, size=5).astype(np.float32),
                }
            ),
            count,
        )
        for site, count in clips.items()
    }


def by_definition(
    contributions: Mapping[str, Contribution], theta: Mapping[str, float]
) -> dict[str, dict[str, np.ndarray]]:
    """Design section 6 written down word for word, with a sum over j != k for each k."""
    fused = {}
    models = {site: unpacked(each.model) for site, each in contributions.items()}
    clips = {site: each.clips for site, each in contributions.items()}
    for k, own in models.items():
        others = [j for j in contributions if j != k]
        fused[k] = {
            name: theta[k] * tensor.astype(np.float64)
            + (1 - theta[k])
            * sum(clips[o] * models[o][name].astype(np.float64) for o in others)
            / sum(clips[o] for o in others)
            for name, tensor in own.items()
        }
    return fused


def rounding(clips: Mapping[str, int], theta: float, site: str) -> float:
    """The bound in `fusion`'s words, for float32, in parts of the largest number of any site."""
    total = sum(clips.values())
    if any((1 - theta) * n / (total - n) > 1 for n in clips.values()):
        return 1.01 * 2.0**-24  # in float64, but for the last step
    of_mean = (1 - theta) * total / (total - clips[site])
    return (14 * of_mean + 6 * min(of_mean, abs(1 - of_mean)) + 1) * 2.0**-24


def largest_numbers(contributions: Mapping[str, Contribution]) -> dict[str, float]:
    """Largest |w| of each tensor at any site."""
    models = [unpacked(each.model) for each in contributions.values()]
    return {name: max(float(np.abs(model[name]).max()) for model in models) for name in models[0]}


def test_three_sites_by_hand() -> None:
    fused = fuse_personalised(
        {"a": contribution(1.0, 10), "b": contribution(2.0, 30), "c": contribution(4.0, 60)}, 0.9
    )
    # a: 0.9 * 1 + 0.1 * (30*2 + 60*4)/90; b: 0.9 * 2 + 0.1 * (10*1 + 60*4)/70; c likewise
    assert fused["a"]["w"] == pytest.approx(np.full((2, 2), 0.9 + 0.1 * 300 / 90), rel=1e-6)
    assert fused["b"]["w"] == pytest.approx(np.full((2, 2), 1.8 + 0.1 * 250 / 70), rel=1e-6)
    assert fused["c"]["w"] == pytest.approx(np.full((2, 2), 3.6 + 0.1 * 70 / 40), rel=1e-6)


def test_mixing_matrix_by_hand() -> None:
    expected = [
        [0.9, 0.1 * 30 / 90, 0.1 * 60 / 90],
        [0.1 * 10 / 70, 0.9, 0.1 * 60 / 70],
        [0.1 * 10 / 40, 0.1 * 30 / 40, 0.9],
    ]
    assert mixing_matrix(CLIPS, 0.9) == pytest.approx(np.array(expected))


@given(
    clips=st.lists(st.integers(1, 5000), min_size=1, max_size=9),
    theta=st.floats(0, 1),
)
def test_rows_of_the_mixing_matrix_sum_to_one(clips: list[int], theta: float) -> None:
    matrix = mixing_matrix({f"site{i}": n for i, n in enumerate(clips)}, theta)
    assert matrix.sum(axis=1) == pytest.approx(np.ones(len(clips)), abs=1e-12)
    assert (matrix >= 0).all()


@example(clips=[92, 3017, 3017], theta=0.0, seed=277)
@given(
    clips=st.lists(st.integers(1, 5000), min_size=2, max_size=6),
    theta=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_equals_the_definition_and_the_mixing_matrix(
    clips: list[int], theta: float, seed: int
) -> None:
    counts = {f"site{i}": n for i, n in enumerate(clips)}
    contributions = random_contributions(counts, seed)
    fused = fuse_personalised(contributions, theta)
    expected = by_definition(contributions, dict.fromkeys(counts, theta))
    matrix = mixing_matrix(counts, theta)
    largest = largest_numbers(contributions)
    for row, site in enumerate(sorted(counts)):
        for name, tensor in fused[site].items():
            near = rounding(counts, theta, site) * largest[name]
            assert tensor == pytest.approx(expected[site][name], rel=0, abs=near)
            mixed = sum(
                matrix[row, column] * unpacked(contributions[other].model)[name].astype(np.float64)
                for column, other in enumerate(sorted(counts))
            )
            assert tensor == pytest.approx(mixed, rel=0, abs=near)


@pytest.mark.parametrize("sites", [2, 7, 40])
@pytest.mark.parametrize("theta", [0.0, 0.5, 0.9, "n/N"])
def test_equals_the_definition_in_float64(sites: int, theta: float | str) -> None:
    generator = np.random.default_rng(sites)
    clips = {f"site{k:02d}": int(generator.integers(20, 60)) for k in range(sites)}
    contributions = {
        site: Contribution(packed({"w": generator.normal(size=10_000).astype(np.float32)}), count)
        for site, count in clips.items()
    }
    total = sum(clips.values())
    own = {
        site: count / total if isinstance(theta, str) else theta for site, count in clips.items()
    }
    fused = fuse_personalised(contributions, own)
    expected = by_definition(contributions, own)
    near = ROUNDING * largest_numbers(contributions)["w"]
    for site in clips:
        assert np.abs(fused[site]["w"] - expected[site]["w"]).max() <= near
    mean = sum(
        clips[site] / total * unpacked(each.model)["w"].astype(np.float64)
        for site, each in contributions.items()
    )
    assert np.abs(fuse_mean(contributions)["w"] - mean).max() <= near


@pytest.mark.parametrize("theta", [0.0, 0.5, 0.9])
def test_with_nearly_all_clips_at_one_site_float32_is_as_exact_as_it_can_be(theta: float) -> None:
    generator = np.random.default_rng(4)
    clips = {"a": 3, "b": 99_900, "c": 97}
    contributions = {
        site: Contribution(packed({"w": generator.normal(size=10_000).astype(np.float32)}), count)
        for site, count in clips.items()
    }
    fused = fuse_personalised(contributions, theta)
    expected = by_definition(contributions, dict.fromkeys(clips, theta))
    # The nearest float32, and either one from halfway between two. What float64 rounds, 2^-53 of
    # numbers below 8, counts (1 - theta) N / (N - n_b) <= 1000.
    in_float64 = 35 * 2.0**-53 * 8 * 1000
    for site in clips:
        exact = expected[site]["w"]
        half_unit = np.spacing(np.abs(fused[site]["w"])) / 2
        assert (np.abs(fused[site]["w"] - exact) <= half_unit + in_float64).all()


@pytest.mark.parametrize("theta", [0.0, 0.3, 0.9, 1.0])
def test_equal_models_are_a_fixed_point_bit_for_bit(theta: float) -> None:
    model = random_contributions({"a": 1})["a"].model
    fused = fuse_personalised({site: Contribution(model, n) for site, n in CLIPS.items()}, theta)
    for site in CLIPS:
        for name, tensor in unpacked(model).items():
            assert np.array_equal(fused[site][name], tensor)


@pytest.mark.parametrize("theta", [0.0, 0.9])
def test_a_lone_site_keeps_its_model(theta: float) -> None:
    alone = random_contributions({"a": 7})
    fused = fuse_personalised(alone, theta)
    for name, tensor in unpacked(alone["a"].model).items():
        assert np.array_equal(fused["a"][name], tensor)
    assert mixing_matrix({"a": 7}, theta).tolist() == [[1.0]]


def test_theta_one_is_local_training_bit_for_bit() -> None:
    contributions = random_contributions(CLIPS)
    fused = fuse_personalised(contributions, 1.0)
    for site, own in contributions.items():
        for name, tensor in unpacked(own.model).items():
            assert np.array_equal(fused[site][name], tensor)


def test_theta_of_the_clip_share_is_fedavg() -> None:
    contributions = random_contributions(CLIPS)
    shares = {site: clips / sum(CLIPS.values()) for site, clips in CLIPS.items()}
    personalised = fuse_personalised(contributions, shares)
    mean = fuse_mean(contributions)
    for site in CLIPS:
        for name, tensor in mean.items():
            assert personalised[site][name] == pytest.approx(tensor, rel=1e-6, abs=1e-9)


def test_fedavg_by_hand() -> None:
    mean = fuse_mean({"a": contribution(1.0, 1), "b": contribution(5.0, 3)})
    assert np.array_equal(mean["w"], np.full((2, 2), 4.0, dtype=np.float32))


def test_a_site_that_counts_nothing_in_the_mean_leaves_no_trace() -> None:
    contributions = {"a": contribution(1e30, 5), "b": contribution(1.0, 1), "c": contribution(2, 1)}
    mean = fusion.fuse_mean(contributions, {"a": 0.0, "b": 0.5, "c": 0.5})
    assert np.array_equal(unpacked(mean)["w"], np.full((2, 2), 1.5, dtype=np.float32))


def test_the_order_of_replies_makes_no_bit_of_difference() -> None:
    contributions = random_contributions({**CLIPS, "d": 7, "e": 1547}, seed=3)
    reference, reference_mean = fuse_personalised(contributions, 0.9), fuse_mean(contributions)
    for order in itertools.islice(itertools.permutations(contributions), 0, 120, 7):
        shuffled = {site: contributions[site] for site in order}
        fused, mean = fuse_personalised(shuffled, 0.9), fuse_mean(shuffled)
        for name in reference_mean:
            assert mean[name].tobytes() == reference_mean[name].tobytes()
            for site in contributions:
                assert fused[site][name].tobytes() == reference[site][name].tobytes()


def test_float_buffers_are_fused_and_integer_buffers_are_not() -> None:
    def with_buffers(mean: float, batches: int) -> dict[str, np.ndarray]:
        return {
            "bn.running_mean": np.array([mean], dtype=np.float32),
            "bn.num_batches_tracked": np.array(batches, dtype=np.int64),
        }

    contributions = {
        "a": Contribution(packed(with_buffers(1.0, 3)), 1),
        "b": Contribution(packed(with_buffers(3.0, 8)), 1),
    }
    fused = fuse_personalised(contributions, 0.75)
    assert fused["a"]["bn.running_mean"] == pytest.approx(0.75 * 1 + 0.25 * 3)
    assert fused["b"]["bn.running_mean"] == pytest.approx(0.75 * 3 + 0.25 * 1)
    for site, batches in (("a", 3), ("b", 8)):
        kept = fused[site]["bn.num_batches_tracked"]
        assert kept.dtype == np.int64
        assert kept == batches
    assert "bn.num_batches_tracked" not in fuse_mean(contributions)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_stay(dtype: type) -> None:
    models = {"a": np.full(3, 1.0, dtype=dtype), "b": np.full(3, 3.0, dtype=dtype)}
    contributions = {site: Contribution(packed({"w": w}), 1) for site, w in models.items()}
    fused = fuse_personalised(contributions, 0.75)
    assert fused["a"]["w"].dtype == dtype
    assert fused["a"]["w"].tolist() == [1.5] * 3
    assert fuse_mean(contributions)["w"].dtype == dtype


def test_a_dominant_site_loses_no_precision() -> None:
    # N - n_k = 1 beside n_k = 10^6: the leave-one-out difference must not cancel the others away.
    contributions = {"big": contribution(1000.0, 1_000_000), "small": contribution(0.001, 1)}
    fused = fuse_personalised(contributions, 0.0)
    assert fused["big"]["w"] == pytest.approx(np.full((2, 2), 0.001), rel=1e-4)


@pytest.mark.parametrize("theta", [-0.1, 1.1, float("nan")])
def test_theta_outside_its_range_is_refused(theta: float) -> None:
    with pytest.raises(ValueError, match="theta"):
        fuse_personalised(random_contributions(CLIPS), theta)


@pytest.mark.parametrize("clips", [0, -3])
def test_clip_counts_must_be_positive(clips: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        fuse_personalised({"a": contribution(1.0, clips), "b": contribution(1.0, 5)}, 0.9)


def test_nothing_to_fuse_is_refused() -> None:
    with pytest.raises(ValueError, match="no site"):
        fuse_mean({})


# Streams ------------------------------------------------------------------------------------------


def in_whole(contributions: Mapping[str, Contribution]) -> dict[str, Model]:
    """Models on disk as another reader reads them."""
    files = {site: each.model for site, each in contributions.items()}
    return {
        site: load_file(each.path) for site, each in files.items() if isinstance(each, ModelFile)
    }


def tensor_by_tensor(
    contributions: Mapping[str, Contribution], theta: Mapping[str, float]
) -> dict[str, Model]:
    """P-FedProx in whole arrays of float64."""
    models = in_whole(contributions)
    clips = {site: each.clips for site, each in contributions.items()}
    fused: dict[str, Model] = {site: {} for site in models}
    for name in models[min(models)]:
        total = sum(clips[site] * models[site][name].astype(np.float64) for site in sorted(models))
        for site, model in models.items():
            own = model[name].astype(np.float64)
            others = (total - clips[site] * own) / (sum(clips.values()) - clips[site])
            fused[site][name] = theta[site] * own + (1.0 - theta[site]) * others
    return fused


def assert_near(found: Model, expected: Model, largest: Mapping[str, float]) -> None:
    for name, tensor in found.items():
        rounding = ROUNDING_OF_DOUBLES if tensor.dtype == np.float64 else ROUNDING
        assert np.abs(tensor - expected[name]).max() <= rounding * largest[name], name


def large_contributions(folder: Path) -> dict[str, Contribution]:
    """Eleven models, more than are summed in one go, of more than one block, on disk."""
    generator = np.random.default_rng(5)
    contributions = {}
    for k in range(11):
        tensors = {
            "a": generator.normal(size=(PIECE, 5)).astype(np.float32),
            "b": generator.normal(scale=1e-6, size=PIECE // 3).astype(np.float32),
            "c": generator.normal(size=7),
        }
        path = folder / f"{k}.safetensors"
        path.write_bytes(packed(tensors).data)
        contributions[f"site{k}"] = Contribution(
            ModelFile.open(path), int(generator.integers(1, 5000)), float(generator.random())
        )
    return contributions


def test_streams_are_near_whole_arrays(tmp_path: Path) -> None:
    contributions = large_contributions(tmp_path)
    theta = {site: 0.05 + 0.08 * k for k, site in enumerate(contributions)}
    largest = largest_numbers(contributions)
    expected = tensor_by_tensor(contributions, theta)
    for site, model in fuse_personalised(contributions, theta).items():
        assert_near(model, expected[site], largest)


def test_a_mean_of_streams_is_near_that_of_whole_arrays(tmp_path: Path) -> None:
    contributions = large_contributions(tmp_path)
    weights = fusion.fisher_weights(contributions)
    models = in_whole(contributions)
    expected = {
        name: sum(weights[site] * models[site][name].astype(np.float64) for site in sorted(models))
        for name in models["site0"]
    }
    mean = unpacked(fusion.fuse_mean(contributions, weights))
    assert_near(mean, expected, largest_numbers(contributions))


def test_neither_threads_nor_the_ends_of_pieces_make_a_bit_of_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contributions = large_contributions(tmp_path)
    theta = {site: 0.05 + 0.08 * k for k, site in enumerate(contributions)}

    def bits(threads: int) -> list[bytes]:
        fused = fusion.fuse_personalised(contributions, theta)
        with ThreadPoolExecutor(threads) as pool:
            first = list(pool.map(whole, fused.values()))
        assert first == [whole(each) for each in fused.values()]  # a second time
        return [*first, whole(fusion.fuse_mean(contributions))]

    expected = bits(threads=1)
    assert bits(threads=2) == expected
    assert bits(threads=5) == expected
    monkeypatch.setattr(fusion, "_of_this_thread", threading.local())
    for module in (fusion, packed_model):
        monkeypatch.setattr(module, "PIECE", 1001)
    assert bits(threads=2) == expected


def test_numbers_can_be_asked_for_from_anywhere() -> None:
    generator = np.random.default_rng(6)
    contributions = {
        site: Contribution(packed({"w": generator.random(3 * PIECE, np.float32)}), count)
        for site, count in CLIPS.items()
    }
    fused = fusion.fuse_personalised(contributions, 0.9)["b"]
    start = PIECE + 5
    found = fused.numbers(0, start, np.empty(PIECE, np.float32)).copy()  # of two pieces of the mean
    assert np.array_equal(found, unpacked(fused)["w"][start : start + PIECE])


def test_every_reader_is_told_of_a_model_that_cannot_be_read(tmp_path: Path) -> None:
    contributions = large_contributions(tmp_path)
    fused = fusion.fuse_personalised(contributions, 0.9)
    (tmp_path / "10.safetensors").unlink()
    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(whole, each) for each in fused.values()]
        for reader in readers:
            assert isinstance(reader.exception(timeout=60), RunFolderError)


def test_models_of_other_tensors_are_refused() -> None:
    contributions = {
        "a": contribution(1.0, 5),
        "b": Contribution(packed({"v": np.zeros((2, 2), dtype=np.float32)}), 5),
    }
    with pytest.raises(ValueError, match="the model of b has other tensors than that of a"):
        fuse_personalised(contributions, 0.9)
