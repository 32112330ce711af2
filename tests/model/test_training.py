import dataclasses

import numpy as np
import pytest
import torch

from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.errors import TrainingDivergedError, WeightsMismatchError
from fedpsyau_model.loss import LossTerms
from fedpsyau_model.model_state import state_arrays, trainable_names
from fedpsyau_model.network import build_network
from fedpsyau_model.schedules import Epoch
from fedpsyau_model.settings import LossSettings, NetworkSettings, TrainingSettings
from fedpsyau_model.training import Pull, batches, predict, train

EPOCH = Epoch(learning_rate=1e-3, prior_weight=1.0)


def network(**values):
    return build_network(NetworkSettings.model_validate(values), generator_seed=1)


def run(model, clips, epochs=(EPOCH,), seed=0, batch_size=8, loss=None, **more):
    return train(
        model,
        clips,
        epochs,
        training=TrainingSettings.model_validate({"batch-size": batch_size}),
        loss=loss or LossSettings(),
        generator=torch.Generator().manual_seed(seed),
        **more,
    )


def trained_state(clips, **values):
    model = network()
    run(model, clips, **values)
    return state_arrays(model)


def equal(first, second):
    return all(np.array_equal(first[name], second[name]) for name in first)


def test_overfits_a_few_random_clips(make_clips):
    clips = make_clips(32)
    model = network(dropout=0.2)
    losses = run(model, clips, (EPOCH,) * 10)
    found = predict(model, clips, 1.0).emotion.argmax(dim=1)
    assert (found == clips.emotion).float().mean() > 0.95
    assert losses.emotion < 0.3


def test_au_labels_are_learnt_from_the_rois(make_clips):
    # One AU whose points move up, one whose points move down; the rest never active.
    clips = make_clips(24)
    active = torch.arange(24) % 2 == 0
    rois = 0.1 * clips.rois
    rois[:, :, 1] += torch.where(active, -1.0, 1.0)[:, None, None, None]
    au = torch.zeros(24, 12)
    au[:, 0], au[:, 8] = active.float(), (~active).float()
    clips = dataclasses.replace(
        clips, rois=rois, au=au, au_known=torch.ones(24, 12, dtype=torch.bool)
    )
    model = network()
    run(model, clips, (EPOCH,) * 14)
    found = predict(model, clips, 1.0).au > 0
    assert (found == au.bool()).float().mean() > 0.98


def test_same_seed_same_bits_whatever_the_global_state(make_clips):
    clips = make_clips(20)
    torch.manual_seed(1)
    first = trained_state(clips, epochs=(EPOCH, EPOCH))
    torch.manual_seed(2)
    second = trained_state(clips, epochs=(EPOCH, EPOCH))
    assert equal(first, second)
    assert not equal(first, trained_state(clips, epochs=(EPOCH, EPOCH), seed=1))


def test_global_randomness_is_left_alone_also_after_an_error(make_clips):
    clips = make_clips(8)
    state = torch.get_rng_state()
    run(network(), clips)
    predict(network(), clips, 0.0)
    with pytest.raises(TrainingDivergedError):
        run(network(), dataclasses.replace(clips, flow=clips.flow * float("nan")))
    assert torch.equal(state, torch.get_rng_state())


def test_dropout_and_order_follow_the_generator(make_clips):
    clips = make_clips(8)
    # One batch in both cases: without dropout the order of clips in it changes rounding only.
    losses = [run(network(), clips, seed=seed).emotion for seed in (0, 1)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
    losses = [run(network(dropout=0), clips, seed=seed).emotion for seed in (0, 1)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [
        (1, 8, [1]),
        (2, 2, [2]),
        (3, 2, [3]),
        (8, 8, [8]),
        (9, 8, [9]),
        (10, 8, [8, 2]),
        (17, 8, [8, 9]),
    ],
)
def test_no_batch_holds_a_single_clip_of_many(count, size, expected):
    cut = batches(torch.arange(count), size)
    assert [len(batch) for batch in cut] == expected
    assert torch.equal(torch.cat(cut), torch.arange(count))


@pytest.mark.parametrize("count", [1, 9])
def test_odd_numbers_of_clips_train(make_clips, count):
    model = network()
    losses = run(model, make_clips(count))
    assert np.isfinite(losses).all()
    assert all(np.isfinite(array).all() for array in state_arrays(model).values())


def test_losses_are_means_over_the_clips_they_apply_to(make_clips):
    clips = make_clips(10)
    frozen = Epoch(learning_rate=1e-30, prior_weight=1.0)
    settings = LossSettings.model_validate({"class-weights": False})
    in_batches = run(network(dropout=0), clips, (frozen,), batch_size=10, loss=settings)
    model = network(dropout=0).train()
    output = model(clips.flow, clips.rois, 1.0)
    cross_entropy = torch.nn.functional.cross_entropy(output.emotion, clips.emotion)
    known = clips.au_known
    au = torch.nn.functional.binary_cross_entropy_with_logits(output.au[known], clips.au[known])
    assert in_batches.emotion == pytest.approx(cross_entropy.item(), rel=1e-4)
    assert in_batches.au == pytest.approx(au.item(), rel=1e-4)
    assert in_batches.proximal == 0
    total = 0.8 * in_batches.emotion + 0.2 * in_batches.au + 0.2 * in_batches.au_aux
    assert in_batches.total == pytest.approx(total)


def test_progress_is_told_after_every_epoch(make_clips):
    told = []
    last = run(network(), make_clips(8), (EPOCH,) * 3, progress=lambda *report: told.append(report))
    assert [number for number, _ in told] == [1, 2, 3]
    assert told[-1][1] == last
    assert told[0][1] != last


def test_learning_rate_and_prior_weight_of_each_epoch_are_used(make_clips):
    clips = make_clips(8)
    base = trained_state(clips, epochs=(EPOCH, EPOCH))
    slower = trained_state(clips, epochs=(EPOCH, EPOCH._replace(learning_rate=1e-4)))
    faded = trained_state(clips, epochs=(EPOCH, EPOCH._replace(prior_weight=0.0)))
    assert not equal(base, slower)
    assert not equal(base, faded)


def test_the_proximal_term_holds_weights_near_the_received_model(make_clips):
    clips = make_clips(16)
    start = state_arrays(network())

    def distance(alpha4, received):
        model = network()
        pull = None if received is None else Pull(received, alpha4)
        losses = run(model, clips, (EPOCH,) * 2, pull=pull)
        end = state_arrays(model)
        moved = sum(np.sum((end[n] - start[n]) ** 2) for n in trainable_names(model))
        return moved, losses.proximal

    free, nothing = distance(1.0, None)
    unweighted, zero = distance(0.0, start)
    held, proximal = distance(100.0, start)
    assert nothing == zero == 0
    assert free == unweighted
    assert held < free / 2
    assert proximal > 0


def test_the_first_step_feels_no_pull_from_where_it_starts(make_clips):
    clips = make_clips(8)
    start = state_arrays(network())
    pulled = trained_state(clips, pull=Pull(start, 1000.0))
    assert equal(pulled, trained_state(clips))


def test_statistics_are_not_pulled_and_need_not_be_received(make_clips):
    model = network()
    weights = {name: state_arrays(model)[name] for name in trainable_names(model)}
    clips = make_clips(16)
    everything = trained_state(clips, pull=Pull(state_arrays(model), 0.001))
    assert equal(everything, trained_state(clips, pull=Pull(weights, 0.001)))


@pytest.mark.parametrize("change", [None, np.zeros(4, dtype=np.float32)])
def test_a_received_model_that_does_not_fit_is_refused(make_clips, change):
    received = state_arrays(network())
    del received["inception.classifier.1.bias"]
    if change is not None:
        received["inception.classifier.1.bias"] = change
    with pytest.raises(WeightsMismatchError, match=r"inception\.classifier\.1\.bias"):
        run(network(), make_clips(4), pull=Pull(received, 0.001))


def test_frozen_parameters_stay_as_they_are(make_clips):
    model = network()
    model.au_branch.requires_grad_(False)
    before = state_arrays(model)
    run(model, make_clips(8), pull=Pull(before, 0.001))
    after = state_arrays(model)
    frozen = [name for name, value in model.named_parameters() if not value.requires_grad]
    assert frozen
    assert equal({name: before[name] for name in frozen}, after)
    assert not equal({name: before[name] for name in trainable_names(model)}, after)


def test_a_loss_that_is_not_finite_stops_training_with_a_cure(make_clips):
    clips = make_clips(24)
    flow = clips.flow.clone()
    flow[5] = float("inf")
    model = network()
    with pytest.raises(TrainingDivergedError, match=r"epoch 1, batch \d.*training\.learning-rate"):
        run(model, dataclasses.replace(clips, flow=flow))
    assert all(torch.isfinite(value).all() for value in model.parameters())


def test_nothing_to_train_is_refused(make_clips):
    with pytest.raises(ValueError, match="0 clips"):
        run(network(), make_clips(0))
    with pytest.raises(ValueError, match="0 epochs"):
        run(network(), make_clips(2), epochs=())


def test_predictions_do_not_depend_on_the_batch_size(make_clips):
    clips, model = make_clips(7), network()
    whole, cut = predict(model, clips, 0.5), predict(model, clips, 0.5, batch_size=2)
    torch.testing.assert_close(whole.emotion, cut.emotion, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(whole.au, cut.au, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_prediction_changes_nothing_in_the_model(make_clips, training):
    model = network().train(training)
    before = state_arrays(model)
    predict(model, make_clips(3), 0.0)
    assert model.training is training
    assert equal(before, state_arrays(model))


@pytest.mark.parametrize("values", [{}, {"au-branch": False}, {"classes": "seven"}], ids=str)
def test_no_clips_give_no_predictions(make_clips, values):
    model = network(**values)
    found = predict(model, make_clips(0), 0.0)
    assert found.emotion.shape == (0, model.class_count)
    assert (found.au is None) == ("au-branch" in values)


def test_subset_takes_clips_in_order(make_clips):
    clips = make_clips(6)
    chosen = clips.subset(torch.tensor([4, 1]))
    assert len(chosen) == 2
    for field in dataclasses.fields(ClipTensors):
        assert torch.equal(getattr(chosen, field.name)[0], getattr(clips, field.name)[4])
        assert torch.equal(getattr(chosen, field.name)[1], getattr(clips, field.name)[1])


def test_clips_whose_shapes_do_not_fit_are_refused(make_clips):
    clips = make_clips(3)
    with pytest.raises(ValueError, match=r"rois must have shape \(3, 65, 3, 5, 5\)"):
        dataclasses.replace(clips, rois=clips.rois[:2])


def test_only_the_named_part_is_trained_and_the_rest_is_not_frozen_for_good(make_clips):
    model = network()
    model.au_branch.predictor.requires_grad_(False)
    before = state_arrays(model)
    trainable = trainable_names(model)
    head = ("inception.classifier.1.weight", "inception.classifier.1.bias")
    run(model, make_clips(8), only=head)
    after = state_arrays(model)
    assert trainable_names(model) == trainable
    rest = {name: before[name] for name in trainable if name not in head}
    assert equal(rest, after)
    assert not any(equal({name: before[name]}, after) for name in head)


def test_parts_are_thawed_after_an_error(make_clips):
    model, clips = network(), make_clips(8)
    trainable = trainable_names(model)
    broken = dataclasses.replace(clips, flow=clips.flow * float("nan"))
    with pytest.raises(TrainingDivergedError):
        run(model, broken, only=("inception.classifier.1.bias",))
    assert trainable_names(model) == trainable


def test_another_objective_is_minimised_instead(make_clips):
    def to_five(model, batch, prior_weight):
        distance = (model(batch.flow, batch.rois, prior_weight).emotion - 5).square().mean()
        nothing = torch.zeros(())
        return LossTerms(distance, nothing, nothing, nothing)

    clips = make_clips(8)
    losses = []
    run(
        network(dropout=0),
        clips,
        (EPOCH._replace(learning_rate=0.5),) * 10,  # ten steps of about 0.5 of the bias
        only=("inception.classifier.1.bias",),
        objective=to_five,
        progress=lambda _, means: losses.append(means.total),
    )
    assert losses[-1] < losses[0] / 5
