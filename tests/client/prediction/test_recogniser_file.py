"""Model files: what is written is read back, and what cannot be used is refused with a reason."""

import contextlib
import json

import numpy as np
import pytest
import safetensors.numpy
import torch
from safetensors.numpy import load_file

from fedpsyau_client.prediction.recogniser_file import (
    FEWEST_CLIPS,
    RECOGNISER,
    calibration,
    preprocessing_of,
    read_recogniser,
    recogniser_facts,
)
from fedpsyau_model.checkpoints import read_checkpoint, write_checkpoint
from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.errors import RecogniserError
from fedpsyau_model.exchange import pack_tensors
from fedpsyau_model.model_state import state_arrays
from fedpsyau_model.network import build_network
from fedpsyau_model.settings import NetworkSettings
from fedpsyau_priors import own_priors, published_priors


def test_a_model_is_read_back_with_its_weights_and_facts(make_model):
    found = read_recogniser(make_model(seed=3))
    for name, tensor in build_network(NetworkSettings(), 3).state_dict().items():
        assert torch.equal(tensor, found.network.state_dict()[name])
    assert not found.network.training
    assert found.facts.prior_weight == 0.25
    assert found.facts.calibration.clips == 40


def test_a_site_s_own_priors_go_along(tmp_path, make_manifest):
    """The network's attention depends on them, so the file must hold them."""
    counts = np.diag(np.arange(1, 13))
    network = NetworkSettings.model_validate({"priors": "site", "intrinsic-edges": "extended"})
    # The edges are extended already, as `Site` builds them.
    priors = own_priors("clinic", cooccurrence=counts, smoothing=0.5, intrinsic="extended")
    facts = recogniser_facts(
        made_by="federation",
        network=network,
        priors=priors,
        prior_weight=1.0,
        config_hash="c" * 64,
        manifests=[make_manifest("dis", False)],
        calibration=None,
    )
    built = build_network(network, 0, priors)
    write_checkpoint(tmp_path / "own.safetensors", state_arrays(built), {RECOGNISER: facts})
    found = read_recogniser(tmp_path / "own.safetensors").network
    for part in ("upper", "lower", "whole"):
        expected = getattr(built.au_branch.relations, part)
        read = getattr(found.au_branch.relations, part)
        assert torch.equal(expected.prior, read.prior)
        assert torch.equal(expected.edges, read.edges)


def test_only_what_matters_of_the_preprocessing_is_kept(make_manifest):
    found = preprocessing_of(make_manifest("dis", False))
    assert found == {"method": "test", "class_rule": "authors", "flow": "dis"}


def test_a_temperature_needs_some_clips():
    generator = np.random.default_rng(0)
    logits, truth = generator.normal(size=(FEWEST_CLIPS, 3)), np.arange(FEWEST_CLIPS) % 3
    assert calibration(logits[:-1], truth[:-1], 2) is None
    found = calibration(logits, truth, 2)
    assert found.nll_after <= found.nll_before
    assert (found.clips, found.subjects) == (FEWEST_CLIPS, 2)


def refused(file, words):
    with pytest.raises(RecogniserError, match=words):
        read_recogniser(file)


def test_a_missing_model_and_a_folder_are_refused(tmp_path):
    refused(tmp_path / "none.safetensors", "No such file")
    refused(tmp_path, "directory")


def test_weights_alone_are_refused_with_what_they_are(tmp_path):
    """As a server keeps them in ``models/SITE.safetensors``."""
    file = tmp_path / "dfme_c1.safetensors"
    file.write_bytes(pack_tensors(state_arrays(build_network(NetworkSettings(), 0))))
    refused(file, "weights that travel")


def test_a_pre_trained_branch_is_refused(tmp_path):
    file = tmp_path / "aus.safetensors"
    write_checkpoint(file, {"a": np.zeros(1, np.float32)}, {"kind": "au-pretraining"})
    refused(file, "knows no emotions")


@pytest.mark.parametrize("provenance", ["[]", '"text"', "3", "null", '{"recogniser": []}'])
def test_odd_provenance_is_refused(tmp_path, provenance):
    file = tmp_path / "odd.safetensors"
    tensors = {"a": np.zeros(1, np.float32)}
    file.write_bytes(safetensors.numpy.save(tensors, metadata={"fedpsyau": provenance}))
    refused(file, "odd.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema-version": 2}, "schema-version"),
        ({"classes": ["yes", "no"]}, "its classes are"),
        ({"aus": [1, 2, 3]}, "its AUs are"),
        ({"priors-sha256": "0" * 64}, "priors"),
        ({"prior-weight": 1.5}, "prior-weight"),
        ({"trained-on": []}, "trained-on"),
        ({"calibration": {"temperature": -1}}, "calibration"),
        ({"another": 1}, "another"),
        ({"network": {"classes": "eight"}}, "network.classes"),
    ],
)
def test_edited_facts_are_refused(make_model, change, words):
    refused(make_model(changes=change), words)


def test_weights_of_another_network_are_refused(make_model):
    seven = NetworkSettings.model_validate({"classes": "seven"}).as_dict()
    file = make_model()
    checkpoint = read_checkpoint(file)
    changed = {"network": seven, "classes": list(CLASS_NAMES["seven"])}
    facts = checkpoint.provenance[RECOGNISER] | changed
    write_checkpoint(file, checkpoint.tensors, {RECOGNISER: facts})
    refused(file, "do not fit the network")


def test_weights_that_are_no_numbers_are_refused(make_model):
    file = make_model()
    checkpoint = read_checkpoint(file)
    tensors = dict(checkpoint.tensors)
    name = next(name for name in tensors if name.startswith("inception.classifier"))
    tensors[name] = np.full_like(tensors[name], np.nan)
    write_checkpoint(file, tensors, checkpoint.provenance)
    refused(file, "NaN or infinite")


def test_cut_and_flipped_files_are_refused_or_read(make_model, tmp_path):
    """Cut at every scale, and with bytes of the header flipped: never anything but our error."""
    content = make_model().read_bytes()
    header = int.from_bytes(content[:8], "little")
    generator = np.random.default_rng(0)
    file = tmp_path / "damaged.safetensors"
    for length in (0, 1, 7, 8, 9, 100, 8 + header - 1, 8 + header, len(content) // 2, -1):
        file.write_bytes(content[:length])
        refused(file, "damaged.safetensors")
    for _ in range(12):
        flipped = bytearray(content)
        flipped[int(generator.integers(8 + header))] ^= 1 << int(generator.integers(8))
        file.write_bytes(flipped)
        with contextlib.suppress(RecogniserError):
            read_recogniser(file)


def test_facts_are_plain_json_and_name_no_place(make_model, tmp_path):
    provenance = read_checkpoint(make_model()).provenance
    text = json.dumps(provenance)
    assert str(tmp_path) not in text
    assert provenance[RECOGNISER]["trained-on"][0]["data-hash"]


def test_a_checkpoint_that_is_a_recogniser_still_holds_plain_tensors(make_model):
    tensors = load_file(make_model())
    assert tensors.keys() == build_network(NetworkSettings(), 0).state_dict().keys()
    assert published_priors().fingerprint() in str(read_checkpoint(make_model()).provenance)
