"""The adapters on the real libraries, against what those compute themselves."""

import inspect

import numpy as np
import pytest
import torch
from made_up import blank
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import vaenotes as vn
from vaenotes.errors import ParameterError

DATA = torch.rand(300, 12, generator=torch.Generator().manual_seed(0))


class Plain(nn.Module):
    """A VAE's encoder as people write it; dropout shows whether it is in eval mode."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Dropout(0.5))
        self.mean, self.logvar = nn.Linear(16, 3), nn.Linear(16, 3)

    def encode(self, x):
        h = self.body(x)
        return self.mean(h), self.logvar(h)


def named(model):
    return lambda x: dict(zip(("mean", "logvar"), model.encode(x), strict=True))


def test_a_plain_module_is_read_in_eval_mode_and_left_as_it_was():
    model = Plain()
    model.mean.eval()  # a part may be frozen
    found = vn.adapters.module(model, DATA, encode=named(model), batch=64)
    assert model.training and model.body.training and not model.mean.training
    model.eval()
    mean, logvar = model.encode(DATA)
    assert torch.allclose(found["posterior_mean"], mean)
    assert torch.allclose(found["posterior_logvar"], logvar)
    assert not found["posterior_mean"].requires_grad
    report = vn.diagnose(**found)
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(1).mean().detach()
    assert report.totals["kl_nats"] == pytest.approx(float(kl), rel=1e-5)


@pytest.mark.parametrize(
    "data",
    [
        DATA.numpy().astype(np.float64),
        DataLoader(TensorDataset(DATA, torch.arange(300)), batch_size=77),
        [{"data": DATA[:100]}, {"data": DATA[100:]}],
    ],
    ids=["array", "loader", "dicts"],
)
def test_data_may_be_an_array_or_batches_of_several_kinds(data):
    model = Plain()
    whole = vn.adapters.module(model, DATA, encode=named(model))
    found = vn.adapters.module(model, data, encode=named(model))
    assert torch.allclose(found["posterior_mean"], whole["posterior_mean"], atol=1e-6)


def test_priors_that_see_the_sample_or_do_not():
    model = Plain()
    seeing = vn.adapters.module(
        model, DATA, encode=named(model), prior=lambda x: {"mean": x[:, :3], "std": x[:, 3:6] + 1}
    )
    assert torch.equal(seeing["prior_mean"], DATA[:, :3])
    constant = {"mean": np.zeros(3), "variance": np.ones(3)}
    blind = vn.adapters.module(model, DATA, encode=named(model), prior=constant)
    assert blind["prior_variance"].tolist() == [1, 1, 1]
    assert np.isfinite(vn.diagnose(**seeing).totals["kl_nats"])
    assert np.isfinite(vn.diagnose(**blind).totals["kl_nats"])


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"model": 3}, "model must be a torch module"),
        ({"data": DATA[:0]}, "data must hold a sample or more"),
        ({"data": 3}, "data must be an array or tensor"),
        ({"data": {"data": DATA}}, "(one batch: in a list), got a dict"),
        ({"data": (DATA, DATA)}, "(one batch: in a list), got a tuple"),
        ({"data": [{"images": DATA}]}, 'a batch of data must have "data"'),
        ({"encode": None}, "encode must be a function"),
        ({"encode": lambda x: (x, x)}, 'encode must give a dict of "mean"'),
        ({"encode": lambda x: {"mean": x}}, "got mean"),
        ({"encode": lambda x: {"mean": x, "std": x, "weights": x}}, "got mean, std, weights"),
        ({"prior": {"mean": DATA, "sigma": DATA}}, 'prior must give a dict of "mean"'),
        ({"batch": 0}, "batch must be an integer of at least 1"),
    ],
)
def test_what_does_not_fit_is_named(changes, rule):
    model = Plain()
    arguments = {"model": model, "data": DATA, "encode": named(model)} | changes
    with pytest.raises(ParameterError) as error:
        vn.adapters.module(
            arguments.pop("model"), arguments.pop("data"), encode=arguments.pop("encode"),
            **arguments,
        )  # fmt: skip
    assert rule in str(error.value)


def test_the_books_own_model():
    model = vn.VAE(vn.Config(prior="diagonal"), blank(("a", "b"), 12))
    prior = model.prior(torch.zeros(1, 2, 2), torch.zeros(1, 2), torch.zeros(1, 2, 2))

    def encode(images):
        return model.encode(images)._asdict()

    found = vn.adapters.module(model, DATA, encode=encode, prior=prior._asdict())
    exact = vn.kl_nats(model.encode(DATA), prior).mean(0)
    report = vn.diagnose(**found)
    assert np.allclose(report.dims["kl_nats"], exact.detach().flatten(), rtol=1e-5)
    assert report.alive.shape == (2, 2)


# pythae


@pytest.fixture(scope="module")
def models():
    return pytest.importorskip("pythae.models")


@pytest.mark.parametrize("name", vn.adapters.STANDARD)
def test_a_model_of_pythae_has_the_kl_that_its_own_loss_has(models, name):
    torch.manual_seed(0)
    kind = getattr(models, name)
    config = inspect.signature(kind).parameters["model_config"].annotation
    model = kind(config(input_dim=(1, 28, 28), latent_dim=4))
    images = torch.rand(100, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    report = vn.diagnose(**vn.adapters.pythae(model, images, batch=30))
    own = model.eval()({"data": images})
    assert report.totals["kl_nats"] == pytest.approx(float(own.reg_loss.detach().mean()), rel=1e-4)
    assert len(report.dims) == 4


def test_a_vamp_of_pythae_against_its_own_log_prior(models):
    torch.manual_seed(0)
    config = models.VAMPConfig(input_dim=(12,), latent_dim=2, number_components=7)
    model = models.VAMP(config)
    found = vn.adapters.pythae(model, DATA.repeat(10, 1))
    assert found["prior_mean"].shape == (7, 2) and found["prior_weights"].sum() == 1
    report = vn.diagnose(**found)
    with torch.no_grad():
        costs = [float(model.eval()({"data": DATA}).reg_loss.mean()) for _ in range(300)]
    error = np.hypot(report.totals["kl_error"], np.std(costs) / len(costs) ** 0.5)
    assert abs(report.totals["kl_nats"] - np.mean(costs)) < 4 * error < 0.2


def test_a_model_of_pythae_whose_posterior_is_no_gaussian_is_refused(models):
    model = models.VAE_LinNF(models.VAE_LinNF_Config(input_dim=(12,), latent_dim=4))
    with pytest.raises(ParameterError, match=r"model, of pythae, must be one of VAE, .*VAMP"):
        vn.adapters.pythae(model, DATA)


# Lightning


def test_a_lightning_module_in_its_own_training_loop(tmp_path):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.decoder = Plain(), nn.Linear(3, 12)
            self.recorder = vn.Recorder()

        def training_step(self, batch, _):
            mean, logvar = self.net.encode(batch[0])
            z = mean + torch.exp(logvar / 2) * torch.randn_like(mean)
            kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(1).mean()
            return (self.decoder(z) - batch[0]).square().sum(1).mean() + kl

        def on_train_epoch_end(self):
            codes = vn.adapters.module(self, DATA, encode=named(self.net))
            report = self.recorder.record(self.current_epoch, **codes)
            assert self.training
            self.log_dict(report.to_dict())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 1e-2)

    torch.manual_seed(0)
    module = Module()
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(DATA), batch_size=50))
    assert list(module.recorder.reports) == [0, 1, 2]
    last = module.recorder.reports[2]
    assert trainer.callback_metrics["kl_nats"] == pytest.approx(last.totals["kl_nats"], rel=1e-5)
    first = module.recorder.reports[0]
    assert first.totals["kl_nats"] != last.totals["kl_nats"]
