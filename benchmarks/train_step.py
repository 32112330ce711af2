"""The network against a plain rendition of the published layout, and against the cores' own limit.

Same weights, same clips, one process. The contenders take turns in short blocks, so that a busy
machine slows all of them alike: figures are ratios of each one's best block, medians stand beside
them. The limit is what a large float32 matrix product reaches on the same cores, times the
multiply-adds that the network's definition counts (backward twice the forward).

    python -m benchmarks.train_step
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._plain_network import PlainNetwork
from fedpsyau_model.action_units import AU_GROUP_SIZES, AU_GROUPS, AUS, POINT_COUNT
from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.network import AuGatDsi, build_network
from fedpsyau_model.processor import kept_memory
from fedpsyau_model.settings import LossSettings, NetworkSettings, TrainingSettings
from fedpsyau_model.training import new_step, predict, recognition, train_step

BATCH = 32

#: rho, at which both terms of the attention are computed.
PRIOR_WEIGHT = 0.5

#: Side of the matrices whose product sets the limit.
MATRIX = 2048

#: Steps of training in one block, one after the other as a training has them.
STEPS = 4

#: Batches that inference goes through in one block, and whose clips `predict` gets at once.
INFERENCE_BATCHES = 4

LOSS = LossSettings.model_validate({"class-weights": False})


@dataclass
class Contender:
    """Something that is timed: an action, what it gets done, and its seconds in every block."""

    action: Callable[[], object]
    amount: float
    """Clips, or floating-point operations."""
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Time one block."""
        wall, processor = time.perf_counter(), time.process_time()
        self.action()
        self.processor.append(time.process_time() - processor)
        self.wall.append(time.perf_counter() - wall)

    @property
    def best(self) -> float:
        """Amount per second in the best block."""
        return self.amount / min(self.wall)

    @property
    def median(self) -> float:
        """Amount per second in the median block."""
        return self.amount / statistics.median(self.wall)

    @property
    def processor_rate(self) -> float:
        """Amount per second of processor time, in the block that took the least of it."""
        return self.amount / min(self.processor)


def main() -> None:
    """Print what is compared, then the figures."""
    arguments = _arguments()
    model = build_network(NetworkSettings(), generator_seed=1)
    # After a few steps the batch-norm statistics are no longer those of a fresh network.
    _steps(model, make_clips(BATCH))()
    _check_equal(model, PlainNetwork(model))
    per_clip = multiply_adds(model.class_count)
    _print_multiply_adds(model, per_clip)
    _print_memory()
    operations = 2 * sum(per_clip.values())
    figures: dict[str, float] = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        contenders = _contenders(model)
        with kept_memory():  # as `train` has it, for all alike
            for contender in contenders.values():
                contender.action()
            for _ in range(arguments.blocks):
                for contender in contenders.values():
                    contender.run()
        figures = _compare(contenders, threads, operations)
    for name, value in figures.items():
        print(f"{name}: {value:.3f}")


def _contenders(model: AuGatDsi) -> dict[str, Contender]:
    plain = PlainNetwork(model)
    batch = make_clips(BATCH)
    clips = make_clips(INFERENCE_BATCHES * BATCH)
    left, right = torch.randn(2, MATRIX, MATRIX).unbind()
    return {
        "training": Contender(_several(_steps(model, batch)), STEPS * BATCH),
        "plain training": Contender(_several(_plain_steps(plain, batch)), STEPS * BATCH),
        "inference": Contender(
            lambda: predict(model, clips, PRIOR_WEIGHT, batch_size=BATCH), len(clips)
        ),
        "plain inference": Contender(lambda: _plain_predictions(plain, clips), len(clips)),
        "matrix product": Contender(lambda: left @ right, 2 * MATRIX**3),
    }


def _several(step: Callable[[], object]) -> Callable[[], object]:
    return lambda: [step() for _ in range(STEPS)]


def _compare(
    contenders: Mapping[str, Contender], threads: int, operations: float
) -> dict[str, float]:
    """Print one table, operations being those of a clip's forward pass; return the figures."""
    product = contenders["matrix product"]
    print(f"\n{threads} thread{'s'[: threads - 1]}, batch {BATCH}, best block (median block)")
    print(
        f"  product of two {MATRIX} x {MATRIX} matrices: {product.best / 1e9:.0f} "
        f"({product.median / 1e9:.0f}) GFLOP/s"
    )
    figures = {}
    for what, passes, name in (("training", 3, "train"), ("inference", 1, "infer")):
        own, plain = contenders[what], contenders[f"plain {what}"]
        cost = passes * operations
        figures[f"{name}_ratio"] = own.best / plain.best
        figures[f"{name}_bound_fraction"] = own.best * cost / product.best
        print(
            f"  {what}: {own.best:.0f} ({own.median:.0f}) clips/s, plain {plain.best:.0f} "
            f"({plain.median:.0f}): ratio {own.best / plain.best:.2f} "
            f"({own.median / plain.median:.2f}), by processor time "
            f"{own.processor_rate / plain.processor_rate:.2f}\n"
            f"    limit {product.best / cost:.0f} ({product.median / cost:.0f}) clips/s, reached "
            f"{own.best * cost / product.best:.2f} ({own.median * cost / product.median:.2f}), "
            f"by processor time {own.processor_rate * cost / product.processor_rate:.2f}"
        )
    return {
        "train_step_ratio": figures["train_ratio"],
        "infer_ratio": figures["infer_ratio"],
        "train_bound_fraction": figures["train_bound_fraction"],
    }


def make_clips(count: int) -> ClipTensors:
    """Make clips of random motion of the size that real flow has, with random labels."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn
    return ClipTensors(
        flow=0.1 * normal(count, 3, 28, 28, generator=generator),
        rois=0.4 * normal(count, POINT_COUNT, 3, 5, 5, generator=generator),
        emotion=torch.randint(3, (count,), generator=generator),
        au=(normal(count, len(AUS), generator=generator) > 1).float(),
        au_known=torch.ones(count, len(AUS), dtype=torch.bool),
    )


def _steps(model: AuGatDsi, batch: ClipTensors) -> Callable[[], object]:
    """One training step of the network, as `fedpsyau_model.training` makes it."""
    step = new_step(model, recognition(model, batch, LOSS), TrainingSettings(), None)

    def action() -> object:
        model.train()
        return train_step(step, batch, PRIOR_WEIGHT)

    return action


def _plain_steps(plain: PlainNetwork, batch: ClipTensors) -> Callable[[], object]:
    """One training step as one writes it down."""
    defaults = TrainingSettings()
    optimiser = torch.optim.AdamW(
        plain.parameters(), lr=defaults.learning_rate, weight_decay=defaults.weight_decay
    )

    def action() -> object:
        plain.train()
        emotion, au, au_aux = plain(batch.flow, batch.rois, PRIOR_WEIGHT)
        loss = (
            LOSS.alpha1 * F.cross_entropy(emotion, batch.emotion)
            + LOSS.alpha2 * F.binary_cross_entropy_with_logits(au, batch.au)
            + LOSS.alpha3 * F.binary_cross_entropy_with_logits(au_aux, batch.au)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    return action


@torch.inference_mode()
def _plain_predictions(plain: PlainNetwork, clips: ClipTensors) -> list[torch.Tensor]:
    plain.eval()
    batches = zip(clips.flow.split(BATCH), clips.rois.split(BATCH), strict=True)
    return [plain(flow, rois, PRIOR_WEIGHT)[0] for flow, rois in batches]


@torch.inference_mode()
def _check_equal(model: AuGatDsi, plain: PlainNetwork) -> None:
    clips = make_clips(BATCH)
    own = predict(model, clips, PRIOR_WEIGHT)
    emotion, au, _ = plain.eval()(clips.flow, clips.rois, PRIOR_WEIGHT)
    torch.testing.assert_close(own.emotion, emotion, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(own.au, au, rtol=1e-3, atol=1e-4)
    print(
        "compared: the network, and a plain rendition of the published layout (161 patch slots, a "
        "convolution call for each), which gives the same logits for the same weights; largest "
        f"difference {(own.emotion - emotion).abs().max():.1e}"
    )


def multiply_adds(classes: int) -> dict[str, int]:
    """Multiply-adds of one clip's forward pass by part, of the definition: no duplicated point."""
    points, patch = POINT_COUNT, 25
    wide = 2 * 75 * 2048
    groups = [
        patch * (3 * size * 9 * 2 * len(aus) + 2 * len(aus) * len(aus))
        for size, aus in zip(AU_GROUP_SIZES, AU_GROUPS, strict=True)
    ]

    def block(before: int, after: int, positions: int) -> int:
        return positions * (4 * before * after + (9 + 25) * after * after)

    def graph(nodes: int) -> int:
        hidden = nodes * 25 * 192 + 3 * nodes * nodes * 64 + 2 * nodes * 192
        return hidden + nodes * 192 * 25 + nodes * nodes * 25 + 2 * nodes * 25

    return {
        "local features": points * patch * 9 * (3 * 32 + 32 * 64 + 64 * 3),
        "spatial structure": points * (4 * 75 * 75 + 2 * wide) + 2 * points * points * 75,
        "AU features": sum(groups),
        "graphs and AU prediction": 2 * graph(6) + graph(12) + 2 * (300 * 128 + 128 * 12),
        "AU stream": block(12, 16, 25) + block(64, 48, 9),
        "global stream": block(3, 6, 784) + block(24, 16, 196) + 3136 * 1024,
        "classifier": 1792 * classes,
    }


def _print_multiply_adds(model: AuGatDsi, per_clip: Mapping[str, int]) -> None:
    total = sum(per_clip.values())
    parts = ", ".join(f"{name} {count / 1e6:.2f}" for name, count in per_clip.items())
    print(f"multiply-adds of a clip's forward pass, millions: {total / 1e6:.1f} ({parts})")
    clips = make_clips(BATCH)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        PlainNetwork(model).eval()(clips.flow, clips.rois, PRIOR_WEIGHT)
    counted = counter.get_total_flops() / 2e6 / BATCH
    print(f"  of the plain one, as torch counts them: {counted:.1f}")


def _print_memory() -> None:
    """Print how much more memory a larger batch takes, in processes of their own."""
    context = multiprocessing.get_context("spawn")
    for name, plain in (("network", False), ("plain", True)):
        peaks = []
        for count in (BATCH, 4 * BATCH):
            with context.Pool(1) as pool:
                peaks.append(pool.apply(_peak_memory, (plain, count)))
        each = (peaks[1] - peaks[0]) / 3 / BATCH
        print(f"memory of a training step, {name}: {each:.2f} MB a clip")


def _peak_memory(plain: bool, count: int) -> float:
    """Peak resident memory of a process that makes two training steps of `count` clips, MB."""
    model = build_network(NetworkSettings(), generator_seed=1)
    batch = make_clips(count)
    step = _plain_steps(PlainNetwork(model), batch) if plain else _steps(model, batch)
    step()
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=15, help="blocks of every contender")
    return parser.parse_args()


if __name__ == "__main__":
    main()
