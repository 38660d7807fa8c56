"""What the trainer is compared with: a core's products, a plain loop, and pythae's trainer.

Rates are per CPU second. The peers train one replica, with the same layers, batch and data.
"""

import contextlib
import io
import tempfile

import torch
from measuring import cpu_seconds
from pythae.data.datasets import BaseDataset
from pythae.models import VAE as PythaeVAE
from pythae.models import VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from vaenotes import training
from vaenotes.config import Config
from vaenotes.data import dataset as datasets
from vaenotes.data.dataset import Dataset
from vaenotes.objective import Weights, loss


def pixels(dataset: Dataset) -> Tensor:
    """(image, pixel), float32 0..1"""
    return datasets.pixels(torch.from_numpy(dataset.images).flatten(1))


def product(dtype: torch.dtype = torch.float32) -> float:
    """Rate of a core's largest products, GFLOP per CPU second."""
    square = torch.randn(1024, 1024).to(dtype)
    out = square @ square
    seconds = cpu_seconds(lambda: [torch.mm(square, square, out=out) for _ in range(20)])
    return 20 * 2 * 1024**3 / seconds / 1e9


def flops_an_image(config: Config, dataset: Dataset) -> float:
    """Of matrix products, forward and backward, as torch counts them."""
    ensemble = training.Ensemble([config], [dataset])
    batch = ensemble.pool.batch(torch.arange(64)[None])
    drawn = ensemble.draw(64, ensemble.generators)
    with FlopCounterMode(display=False) as counter:
        ensemble.gradients(*ensemble.optimizer.read(), *ensemble.weights, *batch, *drawn)
    return counter.get_total_flops() / 64


def plain_loop(config: Config, dataset: Dataset, precision: str = "float32") -> float:
    """One replica, as anybody would train it: a DataLoader, the module, Adam; autocast if its
    products are to be in bfloat16."""
    model = training.initial(config, dataset, torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    images = TensorDataset(pixels(dataset), torch.from_numpy(dataset.standard_factors))
    loader = DataLoader(images, batch_size=config.batch, shuffle=True)

    def epoch() -> None:
        for images, wanted in loader:
            drawn = torch.randn(
                len(images), model.node_shape[0], model.noise_inputs + model.node_shape[1]
            )
            noise, z0 = drawn.split([model.noise_inputs, model.node_shape[1]], dim=-1)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                nats = loss(model, Weights(), images, wanted, noise, z0)
            nats.backward()
            optimizer.step()

    return len(dataset.images) / cpu_seconds(epoch)


class Encoder(BaseEncoder):
    """Our encoder and posterior network, as pythae wants them."""

    def __init__(self, parts: nn.Module):
        super().__init__()
        self.parts = parts

    def forward(self, images: Tensor) -> ModelOutput:
        mean, logvar = self.parts(images.flatten(1)).chunk(2, dim=-1)
        return ModelOutput(embedding=mean.flatten(1), log_covariance=logvar.flatten(1))


class Decoder(BaseDecoder):
    """Our decoder; pythae's cross-entropy takes probabilities."""

    def __init__(self, decoder: nn.Module, shape: tuple[int, ...]):
        super().__init__()
        self.decoder, self.shape = decoder, shape

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.decoder(z).sigmoid().unflatten(-1, self.shape))


def pythae(config: Config, dataset: Dataset) -> float:
    """The same layers in pythae's trainer; its prior is N(0, I), so it has no prior network."""
    ours = training.initial(config, dataset, torch.Generator().manual_seed(0))
    parts = nn.Sequential(ours.encoder, ours.posterior_network)
    shape = (1, *dataset.images.shape[1:])
    images = BaseDataset(pixels(dataset).unflatten(-1, shape), torch.zeros(len(dataset.images)))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        options = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=1,
            learning_rate=config.learning_rate,
            per_device_train_batch_size=config.batch,
            no_cuda=True,
        )
        model = PythaeVAE(
            VAEConfig(input_dim=shape, latent_dim=10, reconstruction_loss="bce"),
            Encoder(parts),
            Decoder(ours.decoder, shape),
        )
        trainer = BaseTrainer(model=model, train_dataset=images, training_config=options)
        return len(images) / cpu_seconds(trainer.train)
