"""The notes' system at its own sizes, on one GPU: every run of the page on the full size.

    python benchmarks/full_size.py OUT 540         # seconds; goes on from --state, if it is there
    python benchmarks/full_size.py OUT 3e5 --cpu 11520 --replicas unsupervised_repeated_costly:1

On a CPU one replica at a time, its convolutions in bfloat16; `--cpu 8` is a trial of eight steps an
epoch.

The modules, the loss and what is measured are the library's own. The loop is not: one replica is
too small to fill a GPU and its step too short to be started piece by piece, so the step of each
replica is captured as a CUDA graph, on a stream of its own, after torch's compiler has fused the
small operations of a step. Every draw of an epoch goes into the bands that are kept, as in the
notes' figures.

    python benchmarks/full_size.py pack COMMIT TITLE OUT [COMMIT TITLE OUT ...]

then makes the report's results/full_size.npz of what such runs have left; a title tells runs of one
arm apart that ended at different epochs ("" for none).
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from vaenotes import trace
from vaenotes.config import Config
from vaenotes.data import sprites
from vaenotes.data.dataset import Dataset
from vaenotes.model import VAE
from vaenotes.objective import Weights, terms, total

NOTES = Config(
    data="sprites", images=737_280, size=64, encoder="multiscale", hidden=256, batch=64,
    learning_rate=1e-4, epochs=30, supervision_weight=0.05,
)  # fmt: skip
FAULT = {"images": 15_360, "repeats": 48}
OFF = {"supervision_weight": 0.0}
SHORT, LONG = 8, 30
HELD_OUT_SEED = 2**31 - 1  # of the images that no replica is trained on
KEPT_EVERY_EPOCH = ("knockout_nats", "knockout_r2", "mean_reconstruction_nats")


@dataclass(frozen=True)
class Arm:
    """Runs that differ in their seeds. fresh: images are drawn anew every epoch. seeds: how many,
    of which the first `long` go on to the last epoch."""

    changes: dict[str, Any]
    fresh: bool
    seeds: int
    long: int


ARMS = {
    "supervised_repeated": Arm(FAULT, False, 3, 2),
    "unsupervised_repeated": Arm(FAULT | OFF, False, 3, 3),
    "supervised_fresh": Arm({}, True, 2, 1),
    "unsupervised_fresh": Arm(OFF, True, 2, 1),
    "supervised_repeated_slow": Arm(FAULT | {"learning_rate": 1e-5}, False, 1, 0),
    "unsupervised_repeated_costly": Arm(FAULT | OFF | {"kl_weight": 0.2}, False, 6, 6),
    # which half of the fault does it: few images, or the same batch many times in a row?
    "supervised_few": Arm({"images": 15_360}, False, 1, 0),
    "supervised_blocks": Arm({"images": 15_360, "repeats": 48}, True, 1, 0),
}


EVERY = [f"{name}:{seed}" for name, arm in ARMS.items() for seed in range(arm.seeds)]


class Grid:
    """All of dSprites' grid on the device, and how its factors are standardised."""

    def __init__(self, device: str, short: bool):
        sizes = sprites.COUNTS
        count = 4096 if short else sprites.GRID  # a trial has the first rows only
        rows = np.column_stack(np.unravel_index(np.arange(count), sizes))
        pictures = [sprites.render(rows[i : i + 65_536], 64) for i in range(0, count, 65_536)]
        self.images = torch.from_numpy(np.concatenate(pictures)).flatten(1).to(device)
        self.count, self.device = count, device
        large = sprites.draw_indices(sizes, 1_000_000, 0)
        mean, std = large.mean(0), large.std(0)
        self.moments = {"factor_mean": mean, "factor_std": std}
        standard = (rows - mean) / std
        self.factors = torch.from_numpy(standard.astype(np.float32)).to(device)

    def draw(self, count: int, *seed: int) -> Tensor:
        """Rows of the grid, (image,): drawn as the data are."""
        drawn = sprites.draw_indices(sprites.COUNTS, count, seed)
        rows = np.ravel_multi_index(tuple(drawn.T), sprites.COUNTS) % self.count
        return torch.from_numpy(rows).to(self.device)

    def pick(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.images[rows].float().div_(255), self.factors[rows]


class Step(nn.Module):
    """The gradients of one replica on one batch, and what the batch shows: the std and mean of
    posterior and prior, (image, 4, node, dim). Parameters come in by name."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, factors: Tensor, drawn: Tensor, weights: Tensor) -> Any:
        inputs, dims = self.model.noise_inputs, self.model.node_shape[1]
        noise, z0 = drawn.split([inputs, dims], dim=-1)
        images = images.float().div_(255)
        output = self.model(images, factors, noise, z0)
        loss = total(terms(self.model, output, images, factors), Weights(*weights.unbind()))
        q, p = output.posterior, output.prior
        shown = [(q.logvar / 2).exp(), (p.logvar / 2).exp(), q.mean, p.mean]
        return loss, torch.stack(shown, 1)


def gradients(step: Step, names: list[str], on_gpu: bool, *example: Tensor) -> Any:
    """step's gradients as one flat function (parameters, images, factors, drawn, weights) ->
    (shown, gradients in the order of `names`)."""

    def found(parameters: list[Tensor], *batch: Tensor) -> Any:
        state = {f"model.{name}": p for name, p in zip(names, parameters, strict=True)}
        loss, shown = functional_call(step, state, batch)
        return shown.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

    own = dict(step.model.named_parameters())
    with torch.autocast("cpu", torch.bfloat16, enabled=not on_gpu):
        flat = make_fx(found)([own[name] for name in names], *example)
    return torch.compile(flat, fullgraph=True, dynamic=False) if on_gpu else flat


class Replica:
    """One run: its module, its optimisers, its generator, and room for what an epoch shows."""

    def __init__(self, arm: str, seed: int, grid: Grid, steps: int):
        self.arm, self.grid, self.steps = arm, grid, steps
        self.config = replace(NOTES, seed=seed, **ARMS[arm].changes)
        self.epochs = LONG if seed < ARMS[arm].long else SHORT
        config, device = self.config, grid.device
        shape = Dataset(
            "sprites", np.zeros((1, 64, 64), np.uint8), np.zeros((1, 5), np.float32),
            sprites.FACTORS, sprites.CORRELATED,
        )  # fmt: skip
        # Weights as the library draws them; then the means and stds of all that can be drawn.
        model = VAE(config, shape).initialise(torch.Generator().manual_seed(seed))
        for name, value in grid.moments.items():
            getattr(model, name).copy_(torch.from_numpy(value))
        self.model = model.to(device)
        self.noise = torch.Generator(device).manual_seed(seed)
        own = list(self.model.named_parameters())
        graph = {"capturable": True} if device == "cuda" else {}
        self.optimizers = [
            torch.optim.Adam(
                [p for name, p in own if name.startswith("prior.") == of_prior],
                lr=config.learning_rate, fused=True, **graph,
            )
            for of_prior in (False, True)
        ]  # fmt: skip
        self.names, self.parameters = [name for name, _ in own], [p for _, p in own]
        self.counting = torch.tensor(self.weights(True), device=device)
        self.warming = torch.tensor(self.weights(False), device=device)
        shape = (steps, config.batch, 4, *self.model.node_shape)
        self.drawn = torch.zeros(shape, device=device)  # std and mean, of posterior and prior
        self.order = torch.zeros((steps, config.batch), dtype=torch.long, device=device)
        self.epoch = 0
        self.kept: dict[str, list[np.ndarray]] = {}
        self.last: dict[str, np.ndarray] = {}

    def weights(self, counts: bool) -> Weights:
        """The KL counts from the second epoch on."""
        c = self.config
        kl = c.kl_weight if counts else 0.0
        return Weights(c.reconstruction_weight, kl, c.supervision_weight)

    def new_order(self) -> None:
        """The batches of the next epoch."""
        c, fresh = self.config, ARMS[self.arm].fresh
        seed = (c.seed, self.epoch) if fresh else (c.seed,)
        distinct = -(-self.steps // c.repeats)
        wanted = min(c.images, distinct * c.batch)
        rows = self.grid.draw(wanted, *seed)
        if not fresh and c.repeats == 1:  # few images, in a new order at every pass
            rng = np.random.default_rng((c.seed, self.epoch, 1))
            passes = -(-self.steps * c.batch // wanted)
            order = np.concatenate([rng.permutation(wanted) for _ in range(passes)])
            rows = rows[torch.from_numpy(order[: self.steps * c.batch]).to(rows.device)]
        batches = rows.reshape(-1, c.batch).repeat_interleave(c.repeats, 0)
        self.order.copy_(batches[: self.steps])

    def batch(self, step: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        """Images, factors, noise and the terms' weights of a step."""
        rows = self.order.index_select(0, step)[0]
        nodes, dims = self.model.node_shape
        shape = (len(rows), nodes, self.model.noise_inputs + dims)
        drawn = torch.randn(shape, generator=self.noise, device=rows.device)
        return self.grid.images[rows], self.grid.factors[rows], drawn, weights

    def take(self, step: Tensor, counts: bool, function: Any) -> None:
        """One step of training."""
        weights = self.counting if counts else self.warming
        with torch.no_grad():
            shown, grads = function(self.parameters, *self.batch(step, weights))
            for parameter, grad in zip(self.parameters, grads, strict=True):
                parameter.grad = grad
            for optimizer in self.optimizers if counts else self.optimizers[:1]:
                optimizer.step()
            self.drawn.index_copy_(0, step, shown[None])

    @torch.no_grad()
    def bands(self) -> dict[str, np.ndarray]:
        """Quantiles of all that the epoch has drawn, (quantile, node, dim)."""
        found = {}
        names = ("posterior_std", "prior_std", "posterior_mean", "prior_mean")
        for place, name in enumerate(names):
            values = self.drawn[:, :, place].flatten(0, 1)
            found[f"bands/{name}"] = trace.quantiles(values).cpu().numpy()
        return found

    def measured(self) -> dict[str, np.ndarray]:
        """What the library measures of a replica: on images held out, and on those it has seen."""
        found = {}
        self.model.eval()
        for where, rows in (
            ("held_out", self.grid.draw(trace.EVALUATION_IMAGES, HELD_OUT_SEED)),
            ("seen", self.grid.draw(trace.EVALUATION_IMAGES, self.config.seed)),
        ):
            images, factors = self.grid.pick(rows)
            nodes, dims = self.model.node_shape
            inputs = self.model.noise_inputs
            generator = torch.Generator().manual_seed(trace.EVALUATION_SEED)
            drawn = torch.randn((len(images), nodes, inputs + dims), generator=generator)
            noise, z0 = drawn.to(images.device).split([inputs, dims], dim=-1)
            with torch.no_grad():
                output = self.model(images, factors, noise, z0)
                weights = self.weights(True)
                here = trace.measure_training(self.model, output, images, factors, weights)
                here |= trace.measure(self.model, output, images, factors)
                if where == "held_out":
                    here |= trace.measure_final(self.model, output, images, factors)
            found |= {f"{where}/{name}": value.cpu().numpy() for name, value in here.items()}
        return found

    def record(self, with_bands: bool) -> None:
        found = self.measured()
        for name, value in found.items():
            short = name.partition("/")[2]
            if short.startswith("followed") and name.startswith("seen"):
                continue
            if short in trace.QUANTITIES or short in KEPT_EVERY_EPOCH:
                self.kept.setdefault(name, []).append(value)
            if short in trace.FINAL_QUANTITIES and not short.startswith("training"):
                self.last[name] = value
        if with_bands:
            for name, value in self.bands().items():
                self.kept.setdefault(name, []).append(value)

    def file(self, folder: Path) -> Path:
        """Where its state is kept."""
        return folder / f"{self.arm}_{self.config.seed}.pt"

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "adam": [o.state_dict() for o in self.optimizers],
            "noise": self.noise.get_state(),
            "epoch": self.epoch,
            "kept": {name: torch.from_numpy(np.stack(all_)) for name, all_ in self.kept.items()},
            "last": {name: torch.from_numpy(values) for name, values in self.last.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        for optimizer, kept in zip(self.optimizers, state["adam"], strict=True):
            optimizer.load_state_dict(kept)
        self.noise.set_state(state["noise"])
        self.epoch = state["epoch"]
        self.kept = {name: list(values.numpy()) for name, values in state["kept"].items()}
        self.last = {name: values.numpy() for name, values in state["last"].items()}


class Steps:
    """The steps of one replica: on a GPU a graph on a stream of its own, so that those of several
    replicas run side by side and none waits for another."""

    def __init__(self, replica: Replica, counts: bool, function: Any):
        self.replica, self.counts, self.function = replica, counts, function
        self.step = torch.zeros(1, dtype=torch.long, device=replica.grid.device)
        self.graph: Any = None
        if replica.grid.device == "cuda":
            self.stream = torch.cuda.Stream()
            self.capture()

    def capture(self) -> None:
        replica = self.replica
        parameters = [p.detach().clone() for p in replica.parameters]
        states = [_copied(o.state_dict()) for o in replica.optimizers]
        noise = replica.noise.get_state()
        torch.cuda.synchronize()
        with torch.cuda.stream(self.stream):
            for _ in range(2):  # a graph needs optimisers and libraries that are under way
                replica.take(self.step, self.counts, self.function)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(replica.noise)
        with torch.cuda.graph(self.graph, stream=self.stream):
            replica.take(self.step, self.counts, self.function)
            self.step.add_(1)
        with torch.no_grad():
            for parameter, value in zip(replica.parameters, parameters, strict=True):
                parameter.copy_(value)
            for optimizer, state in zip(replica.optimizers, states, strict=True):
                _put_back(optimizer, state)
        replica.noise.set_state(noise)
        torch.cuda.synchronize()

    def take(self) -> None:
        if self.graph is None:
            self.replica.take(self.step, self.counts, self.function)
            self.step.add_(1)
            return
        with torch.cuda.stream(self.stream):
            self.graph.replay()


def one_epoch(several: list[Steps], steps: int) -> None:
    """The replicas' next epoch, side by side."""
    for one in several:
        one.step.zero_()
    on_gpu = several[0].graph is not None
    if on_gpu:
        torch.cuda.synchronize()
    for _ in range(steps):
        for one in several:
            one.take()
    if on_gpu:
        torch.cuda.synchronize()


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    return {
        number: {name: value.clone() for name, value in one.items()}
        for number, one in state["state"].items()
    }


def _put_back(optimizer: torch.optim.Adam, state: dict[str, Any]) -> None:
    """An optimiser's numbers as they were, in the very tensors that a graph knows."""
    for number, parameter in enumerate(optimizer.param_groups[0]["params"]):
        for name, value in optimizer.state.get(parameter, {}).items():
            old = state.get(number, {}).get(name)
            value.zero_() if old is None else value.copy_(old)


def shortened(values: np.ndarray) -> np.ndarray:
    """float32 with four digits: what is kept, and packs well."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x800) & 0xFFFFF000).view(np.float32).reshape(values.shape)


def pack(*parts: str) -> None:
    """Traces of finished and unfinished runs, by group: an arm, or an arm and a title."""
    arrays: dict[str, np.ndarray] = {}
    facts = []
    for commit, title, out in zip(parts[::3], parts[1::3], map(Path, parts[2::3]), strict=True):
        told = json.loads((out / "full_size.json").read_text())
        loaded = {}
        for file in sorted(out.glob("full_size_*.npz")):
            with np.load(file, allow_pickle=False) as kept:
                loaded |= {name: kept[name] for name in kept.files}
        longest = max(one["epochs"] for one in told["replicas"])
        for number, one in enumerate(told["replicas"]):
            if title and one["epochs"] < longest:
                continue  # under the title of its own file
            group = f"{one['arm']} {title}".strip()
            where = {"commit": commit, "device": told["device"], "torch": told["torch"]}
            facts.append(one | where | {"group": group})
            for name, value in loaded.items():
                owner, _, what = name.partition("/")
                if int(owner) == number and kept_name(what):
                    arrays[f"{len(facts) - 1}/{what}"] = shortened(value)
    folder = Path(__file__).parents[1] / "vaenotes" / "report" / "results"
    about = json.dumps({"replicas": facts})
    drawn = sprites.draw_indices(sprites.COUNTS, trace.EVALUATION_IMAGES, [HELD_OUT_SEED])
    factors = drawn[: trace.KEPT_IMAGES].astype(np.float32)
    np.savez_compressed(folder / "full_size.npz", about=np.array(about), factors=factors, **arrays)
    print(f"{len(facts)} replicas, {len(arrays)} arrays")


def kept_name(what: str) -> bool:
    """Held-out images in full but for what bands show better; of those seen, what may differ."""
    where, _, name = what.partition("/")
    if where == "seen":
        return name in ("ratio", "kl_nats", "reconstruction_nats", "noise_force", "squared_ratio")
    return "quantiles" not in name and not name.startswith("followed")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--state", type=Path, default=Path("/tmp/full_size"))
    parser.add_argument("--cpu", type=int, default=0)
    parser.add_argument("--replicas", nargs="*", default=EVERY)
    asked = parser.parse_args()
    began = time.perf_counter()
    device = "cpu" if asked.cpu else "cuda"
    steps = asked.cpu or 11_520
    torch.backends.cudnn.benchmark = True
    grid = Grid(device, short=0 < asked.cpu < 100)
    print(f"grid in {time.perf_counter() - began:.1f} s", flush=True)
    replicas = []
    for name in asked.replicas:
        arm, _, seed = name.rpartition(":")
        replica = Replica(arm, int(seed), grid, steps)
        if replica.file(asked.state).exists():
            replica.restore(torch.load(replica.file(asked.state), weights_only=True))
        else:
            replica.record(with_bands=False)
        replica.new_order()
        replicas.append(replica)
    print(f"{len(replicas)} replicas after {time.perf_counter() - began:.1f} s", flush=True)
    one = replicas[0]
    start = time.perf_counter()
    example = one.batch(torch.zeros(1, dtype=torch.long, device=device), one.counting)
    noise = one.noise.get_state()
    function = gradients(Step(one.model), one.names, device == "cuda", *example)
    with torch.no_grad():
        function(one.parameters, *example)
    one.noise.set_state(noise)
    print(f"compiled in {time.perf_counter() - start:.1f} s", flush=True)
    ready: dict[int, Steps] = {}
    longest = 0.0
    while any(r.epoch < r.epochs for r in replicas):
        number = min(r.epoch for r in replicas if r.epoch < r.epochs)
        due = [r for r in replicas if r.epoch == number < r.epochs]
        start = time.perf_counter()
        if asked.seconds - (start - began) < 1.2 * longest + 10:
            print("out of time", flush=True)
            break
        counts = number >= NOTES.kl_warmup
        for replica in due:
            replica.new_order()
            if id(replica) not in ready or ready[id(replica)].counts != counts:
                ready[id(replica)] = Steps(replica, counts, function)
        one_epoch([ready[id(replica)] for replica in due], steps)
        for replica in due:
            replica.epoch += 1
            replica.record(with_bands=True)
        longest = time.perf_counter() - start
        if number % 6 == 5 or device == "cpu":
            save(asked.out, asked.state, replicas, device)
        print(f"epoch {number + 1}: {len(due)} replicas, {longest:.1f} s", flush=True)
        for replica in due:
            kl = np.median(replica.kept["held_out/kl_nats"][-1].min(-1))
            print(f"    {replica.arm} {replica.config.seed}: the weaker dim {kl:.2f} nats")
    save(asked.out, asked.state, replicas, device)


def save(out: Path, state: Path, replicas: list[Replica], device: str) -> None:
    """All that the replicas have shown so far, and what they need to go on."""
    for folder in (out, state):
        folder.mkdir(parents=True, exist_ok=True)
    for replica in replicas:
        torch.save(replica.state(), replica.file(state))
    facts = []
    arrays: dict[str, np.ndarray] = {}
    for number, replica in enumerate(replicas):
        facts.append(
            {"arm": replica.arm, "epochs": replica.epoch, "config": asdict(replica.config),
             "fresh": ARMS[replica.arm].fresh}
        )  # fmt: skip
        arrays |= {f"{number}/{name}": np.stack(kept) for name, kept in replica.kept.items()}
        arrays |= {f"{number}/last/{name}": kept for name, kept in replica.last.items()}
    half = [{k: v for k, v in arrays.items() if int(k.split("/")[0]) % 2 == i} for i in (0, 1)]
    for i, part in enumerate(half):
        np.savez(out / f"full_size_{i}.npz", **part)
    where = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    facts_file = {"replicas": facts, "device": where, "torch": torch.__version__}
    (out / "full_size.json").write_text(json.dumps(facts_file))


if __name__ == "__main__":
    pack(*sys.argv[2:]) if sys.argv[1] == "pack" else main()
