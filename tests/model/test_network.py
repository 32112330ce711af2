import numpy as np
import pytest
import torch

from fedpsyau_model.action_units import AU_GROUP_SIZES, POINT_COUNT
from fedpsyau_model.facial_points import group_point_indices
from fedpsyau_model.loss import recognition_loss
from fedpsyau_model.network import AuGatDsi, build_network
from fedpsyau_model.network.au_features import AuFeatureExtractor
from fedpsyau_model.network.inception import DualStreamInception, InceptionStream
from fedpsyau_model.network.local_regions import LocalFeatureExtractor, SpatialStructureEncoder
from fedpsyau_model.settings import LossSettings, NetworkSettings
from fedpsyau_priors import graph_priors, own_priors, published_priors

ABLATIONS = [
    {},
    {"classes": "seven"},
    {"au-branch": False},
    {"global-stream": False},
    {"graph": False},
    {"extrinsic-prior": False},
    {"intrinsic-edges": "extended"},
    {"intrinsic-edges": "complete"},
]


def network(**values):
    return build_network(NetworkSettings.model_validate(values), generator_seed=1)


@pytest.fixture(scope="module")
def full():
    return network().eval()


def parameter_count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_shapes(full, make_clips, batch, mode):
    clips = make_clips(batch)
    model = network() if mode else full
    output = model.train(mode)(clips.flow, clips.rois, 1.0)
    assert output.emotion.shape == (batch, 3)
    assert output.au.shape == output.au_aux.shape == (batch, 12)
    assert all(torch.isfinite(logits).all() for logits in output)


def test_number_of_parameters_is_the_published_one(full):
    assert parameter_count(full) == 4_130_444
    assert 4.0e6 < parameter_count(full) < 4.3e6
    assert parameter_count(network(classes="seven")) == 4_130_444 + 4 * 1793


def test_parts_have_the_shapes_of_the_design(make_clips):
    clips = make_clips(2)
    points = LocalFeatureExtractor()(clips.rois)
    assert points.shape == (2, POINT_COUNT, 75)
    assert SpatialStructureEncoder()(points).shape == (2, POINT_COUNT, 75)
    assert AuFeatureExtractor(group_point_indices()).group_sizes == list(AU_GROUP_SIZES)
    assert InceptionStream(12, (16, 48), 5)(torch.randn(2, 12, 5, 5)).shape == (2, 768)
    assert InceptionStream(3, (6, 16), 28)(clips.flow).shape == (2, 3136)
    both = DualStreamInception(7, 0.5, au_stream=True, global_stream=True)
    assert both.classifier[1].in_features == 1792


def test_a_prediction_does_not_depend_on_its_batch_mates(full, make_clips):
    clips = make_clips(4)
    together = full(clips.flow, clips.rois, 0.5)
    for index in range(4):
        alone = full(clips.flow[index : index + 1], clips.rois[index : index + 1], 0.5)
        for logits, own in zip(together, alone, strict=True):
            torch.testing.assert_close(logits[index], own[0], atol=1e-5, rtol=1e-4)


def test_points_see_the_points_of_their_own_face_only():
    torch.manual_seed(0)
    encoder = SpatialStructureEncoder().train()
    points = torch.randn(3, POINT_COUNT, 75)
    changed = points.clone()
    changed[1, 7] += 1
    difference = (encoder(points) - encoder(changed)).abs().amax(dim=2)
    assert (difference[1] > 1e-6).all()
    assert difference[[0, 2]].max() < 1e-6


def test_all_points_share_one_extractor(make_clips):
    extractor = LocalFeatureExtractor()
    rois = make_clips(2).rois
    order = torch.randperm(POINT_COUNT)
    torch.testing.assert_close(extractor(rois)[:, order], extractor(rois[:, order]))


def test_an_au_group_looks_at_its_own_points_only(full, make_clips):
    extractor = full.au_branch.au_features
    points = torch.randn(1, POINT_COUNT, 75)
    outside = sorted(set(range(POINT_COUNT)) - set(group_point_indices()[0]))
    changed = points.clone()
    changed[:, outside] += 1
    before, after = extractor(points), extractor(changed)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


def test_au_features_have_length_one(full, make_clips):
    branch = full.au_branch
    points = branch.spatial_structure(branch.local_features(make_clips(8).rois))
    lengths = branch.au_features(points).norm(dim=2)
    assert lengths.max() <= 1 + 1e-5
    assert (lengths > 0.999).float().mean() > 0.9


def test_the_global_stream_does_not_depend_on_the_scale_of_the_flow(make_clips):
    model = network(**{"au-branch": False, "dropout": 0.0}).train()
    clips = make_clips(8)
    torch.testing.assert_close(
        model(clips.flow, clips.rois, 1.0).emotion,
        model(3 * clips.flow, clips.rois, 1.0).emotion,
        atol=0.01,
        rtol=0.01,
    )


@pytest.mark.parametrize("values", ABLATIONS, ids=str)
def test_every_ablation_trains_all_its_parameters(values, make_clips):
    model = network(**values).train()
    clips = make_clips(16, class_count=model.class_count)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0)
    output = model(clips.flow, clips.rois, 1.0)
    loss = recognition_loss(
        output, clips.emotion, clips.au, clips.au_known, None, LossSettings()
    ).total
    loss.backward()
    without = [name for name, value in model.named_parameters() if not value.grad.any()]
    assert without == []
    optimiser.step()
    unchanged = [n for n, value in model.named_parameters() if torch.equal(before[n], value)]
    assert unchanged == []


def test_without_the_au_branch_there_are_no_au_logits(make_clips):
    clips = make_clips(2)
    output = network(**{"au-branch": False}).eval()(clips.flow, clips.rois, 1.0)
    assert output.au is None
    assert output.au_aux is None


def test_ablations_leave_their_parts_out(full):
    assert parameter_count(network(graph=False)) < parameter_count(full)
    assert parameter_count(network(**{"au-branch": False})) < 3.3e6
    assert parameter_count(network(**{"global-stream": False})) < 1.0e6


def test_without_the_extrinsic_prior_its_weight_changes_nothing(full, make_clips):
    clips = make_clips(2)
    inputs = (clips.flow, clips.rois)
    without = network(**{"extrinsic-prior": False}).eval()
    assert torch.equal(without(*inputs, 1.0).au, without(*inputs, 0.0).au)
    assert not torch.equal(full(*inputs, 1.0).au, full(*inputs, 0.0).au)


def test_priors_are_no_part_of_the_state():
    published, complete = network().state_dict(), network(**{"intrinsic-edges": "complete"})
    assert published.keys() == complete.state_dict().keys()
    assert not [name for name in published if "edges" in name or "prior" in name]
    assert not [name for name in published if name.endswith("slots")]


def test_same_seed_same_bits_and_global_randomness_is_left_alone():
    state = torch.get_rng_state()
    first, second = network().state_dict(), network().state_dict()
    other = build_network(NetworkSettings(), generator_seed=2).state_dict()
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    name = "inception.classifier.1.weight"
    assert not torch.equal(first[name], other[name])


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_prior_weight_out_of_range_is_refused(full, make_clips, weight):
    clips = make_clips(1)
    with pytest.raises(ValueError, match="prior_weight"):
        full(clips.flow, clips.rois, weight)


def test_the_network_takes_priors_of_a_users_own(make_clips):
    clips = make_clips(2)
    model = AuGatDsi(NetworkSettings(), graph_priors(published_priors("complete")))
    assert model.au_branch.relations.whole.edges.all()
    assert model(clips.flow, clips.rois, 1.0).au.shape == (2, 12)


def test_priors_change_what_is_computed_but_no_weight(make_clips):
    clips = make_clips(2)
    settings = NetworkSettings(priors="site")
    with pytest.raises(ValueError, match="must be given"):
        build_network(settings, 1)
    alone = own_priors("alone", coordinated=np.eye(12, dtype=int))
    first, second = (build_network(settings, 1, each) for each in (published_priors(), alone))
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name])
    outputs = [model.eval()(clips.flow, clips.rois, 1.0).au for model in (first, second)]
    assert not torch.equal(*outputs)
