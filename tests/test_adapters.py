"""The adapters on the real libraries, against what those compute themselves."""

import importlib
import inspect

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
)

import vaenotes as vn
from vaenotes.diagnosis.metric import DiagnosisMetric
from vaenotes.errors import ParameterError

DATA = torch.rand(300, 12, generator=torch.Generator().manual_seed(0))


class Plain(nn.Module):
    """A VAE's encoder as people write it; dropout shows whether it is in eval mode."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Dropout(0.5))
        self.mean, self.logvar = nn.Linear(16, 3), nn.Linear(16, 3)

    def forward(self, x):
        h = self.body(x)
        return {"mean": self.mean(h), "logvar": self.logvar(h)}


def read(model, data=DATA, **changes):
    return vn.adapters.module(model, data, **{"encode": model, **changes})


def test_a_plain_module_is_read_in_eval_mode_and_left_as_it_was():
    model = Plain()
    model.mean.eval()  # a part may be frozen
    found = read(model, batch=64)
    assert model.training and model.body.training and not model.mean.training
    mean, logvar = model.eval()(DATA).values()
    assert torch.allclose(found["posterior_mean"], mean)
    assert torch.allclose(found["posterior_logvar"], logvar)
    assert not found["posterior_mean"].requires_grad
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(1).mean().detach()
    assert vn.diagnose(**found).totals["kl_nats"] == pytest.approx(float(kl), rel=1e-5)


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
    mean = "posterior_mean"
    assert torch.allclose(read(model, data)[mean], read(model)[mean], atol=1e-6)


def test_priors_that_see_the_sample_or_do_not():
    model = Plain()
    seeing = read(model, prior=lambda x: {"mean": x[:, :3], "std": x[:, 3:6] + 1}, batch=77)
    assert torch.equal(seeing["prior_mean"], DATA[:, :3])
    blind = read(model, prior={"mean": np.zeros(3), "variance": np.ones(3)})
    assert vn.diagnose(**blind).dims.equals(vn.diagnose(**read(model)).dims)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"data": DATA[:0]}, "data must hold a sample or more"),
        ({"data": (DATA, DATA)}, "(one batch: in a list), got a tuple"),
        ({"data": [{"images": DATA}]}, 'a batch of data must have "data", or pick must say'),
        ({"encode": lambda x: {"mean": x, "std": x, "prior_mean": x}}, "encode's prior must give"),
        ({"encode": lambda x: {"mean": x}}, "got mean"),
        ({"encode": lambda x: {"mean": x, "std": x, "weights": x}}, "got mean, std, weights"),
        (
            {
                "encode": lambda x: {"mean": x, "std" if len(x) == 256 else "logvar": x.exp()},
                "batch": 256,
            },
            "encode must give the same of every batch, {'mean': (12,), 'std'",
        ),
        (
            {"encode": lambda x: {"mean": x[:, : len(x) // 100], "std": 1.0}, "batch": 200},
            "encode must give the same of every batch, {'mean': (2,)",
        ),
        (
            {"data": DataLoader(TensorDataset(DATA), shuffle=True), "decode": lambda z, rows: z},
            "data must not be shuffled where decode takes rows",
        ),
        (
            {
                "data": DataLoader(TensorDataset(DATA), sampler=SubsetRandomSampler(range(300))),
                "decode": lambda z, rows: z,
            },
            "data must not be shuffled where decode takes rows",
        ),
        (
            {
                "data": DataLoader(
                    TensorDataset(DATA), batch_sampler=BatchSampler(RandomSampler(DATA), 100, False)
                ),
                "decode": lambda z, rows: z,
            },
            "data must not be shuffled where decode takes rows",
        ),
        ({"data": "abc"}, "data must be an array or tensor (sample, ...) or an iterable of"),
        ({"prior": {"mean": DATA, "sigma": DATA}}, 'prior must give a dict of "mean"'),
    ],
)
def test_what_does_not_fit_is_named(changes, rule):
    with pytest.raises(ParameterError) as error:
        read(Plain(), **changes)
    assert rule in str(error.value)


@pytest.mark.attack("wrong")
def test_an_encoder_may_use_its_memory_again_and_change_what_it_is_given():
    buffer, data = torch.empty(77, 3), DATA.clone()

    def again(x):
        x.mul_(2)
        mean = buffer[: len(x)].copy_(x[:, :3])
        return {"mean": mean, "std": mean.add(1)}

    def prior(x):
        return {"mean": x[:, 3:6], "std": 1.0}

    found = read(Plain(), data, encode=again, prior=prior, batch=77)
    assert torch.equal(found["posterior_mean"], 2 * DATA[:, :3]) and torch.equal(data, DATA)
    assert torch.equal(found["prior_mean"], DATA[:, 3:6])
    arrays = [data.numpy()]
    read(Plain(), arrays, encode=lambda x: again(torch.from_numpy(x)[:77]))
    assert torch.equal(data, DATA)


@pytest.mark.attack("wrong")
def test_images_come_in_the_precision_of_the_first_weights_that_are_floats():
    class Counting(nn.Module):
        def __init__(self, more):
            super().__init__()
            self.steps = nn.Parameter(torch.zeros(1, dtype=torch.int64), requires_grad=False)
            for name, value in more.items():
                self.register_buffer(name, value)

    for more in ({}, {"scale": torch.ones(3)}, {"scale": torch.ones(3).double()}):
        found = read(Counting(more), encode=lambda x: {"mean": x[:, :3], "std": 1.0}, batch=77)
        dtype = next(iter(more.values()), DATA).dtype
        assert torch.equal(found["posterior_mean"], DATA[:, :3].to(dtype))
        assert found["posterior_mean"].dtype == dtype


@pytest.mark.parametrize("std", [0.1, torch.tensor([0.1, 0.2, 0.3])])
def test_an_encoder_may_return_one_number_or_one_for_each_dim(std):
    def same(x):
        return {"mean": x[:, :3], "std": std, "prior_mean": 0.0, "prior_std": std}

    found = read(Plain(), encode=same, batch=77)
    given = {"posterior_mean": DATA[:, :3], "posterior_std": std}
    expected = vn.diagnose(**given, prior_mean=0.0, prior_std=std)
    assert np.allclose(vn.diagnose(**found).dims["kl_nats"], expected.dims["kl_nats"])
    shared = read(Plain(), encode=lambda x: {"mean": x[:, :3], "cholesky": torch.eye(3)}, batch=77)
    assert shared["posterior_cholesky"].shape == (300, 3, 3)


@pytest.mark.attack("line")
@pytest.mark.parametrize("found", [{"mean": 0.0, "std": 1.0}, {"mean": DATA, "std": DATA[:5]}])
def test_numbers_that_are_not_of_each_sample_are_one_line(found):
    with pytest.raises(ParameterError, match="encode must give a "):
        read(Plain(), encode=lambda x: found)


def test_a_frame_will_do_and_one_of_words_is_one_line():
    frame = pd.DataFrame(DATA.numpy())
    assert torch.equal(read(Plain(), frame)["posterior_mean"], read(Plain())["posterior_mean"])
    with pytest.raises(ParameterError, match="data must be an array or tensor of numbers, got a D"):
        read(Plain(), frame.astype(object))


@pytest.mark.attack("wrong")
def test_reading_a_dataset_draws_nothing_of_the_callers():
    model = Plain()
    state = torch.get_rng_state()
    read(model, TensorDataset(DATA))
    assert torch.equal(torch.get_rng_state(), state)


def test_labels_reach_an_encoder_that_wants_them():
    labels = torch.arange(300) % 4

    def encode(batch):
        x, y = batch
        assert x.dtype == torch.float32 and y.dtype == torch.int64
        return {"mean": x[:, :3] + y[:, None], "std": x[:, 3:6] + 1}

    loader = DataLoader(TensorDataset(DATA.double(), labels), batch_size=77)
    found = read(Plain(), loader, encode=encode, pick=lambda batch: batch)
    assert torch.allclose(found["posterior_mean"], DATA[:, :3] + labels[:, None])
    named = [{"x": DATA, "labels": labels}]
    other = read(Plain(), named, encode=encode, pick=lambda batch: (batch["x"], batch["labels"]))
    assert torch.equal(other["posterior_mean"], found["posterior_mean"])


def test_a_dataset_will_do():
    model = Plain()
    found = read(model, TensorDataset(DATA, torch.arange(300)), batch=77)
    assert torch.allclose(found["posterior_mean"], read(model)["posterior_mean"], atol=1e-6)


def test_an_encoder_may_return_the_prior_of_the_very_draw_that_it_saw():
    """The lower of two latents, whose posterior is its prior given one draw of the upper: a KL of
    nothing, whatever was drawn."""

    def encode(x):
        upper = x[:, :3] + torch.randn_like(x[:, :3])
        return {
            "mean": upper,
            "std": 0 * upper + 0.5,
            "prior_mean": upper,
            "prior_std": 0 * upper + 0.5,
        }

    report = vn.diagnose(**read(Plain(), encode=encode, batch=77))
    assert report.totals["kl_nats"] == pytest.approx(0, abs=1e-9)
    assert report.counts["known to the prior"] == 3


def distributions():
    torch.manual_seed(0)
    mean, std = torch.randn(50, 3), torch.rand(50, 3) + 0.2
    factor = torch.diag_embed(std) + 0.1 * torch.ones(3, 3).tril(-1)
    unit = torch.distributions.Normal(torch.zeros(3), 2.0)
    return {
        "normal": (torch.distributions.Normal(mean, std), None),
        "independent": (torch.distributions.Independent(torch.distributions.Normal(mean, std), 1),
                        torch.distributions.Independent(unit, 1)),
        "full": (torch.distributions.MultivariateNormal(mean, scale_tril=factor), None),
        "both": (torch.distributions.MultivariateNormal(mean, scale_tril=factor),
                 torch.distributions.MultivariateNormal(mean + 1, torch.eye(3))),
        "low rank": (torch.distributions.LowRankMultivariateNormal(mean, factor[:, :, :1], std),
                     torch.distributions.MultivariateNormal(mean + 1, torch.eye(3))),
    }  # fmt: skip


@pytest.mark.parametrize("name", distributions())
def test_distributions_have_the_kl_that_torch_has(name):
    q, p = distributions()[name]
    report = vn.diagnose(**vn.adapters.distributions(q, p))
    standard = torch.distributions.Normal(torch.zeros(3), 1.0)
    if p is None and name == "full":
        standard = torch.distributions.MultivariateNormal(torch.zeros(3), torch.eye(3))
    kl = torch.distributions.kl_divergence(q, p or standard)
    assert report.totals["kl_nats"] == pytest.approx(float(kl.sum()) / 50, rel=1e-5)


@pytest.mark.parametrize("library", ["pyro", "numpyro"])
def test_distributions_of_other_libraries(library):
    kinds = importlib.import_module(f"{library}.distributions")
    tensor = torch.as_tensor if library == "pyro" else np.asarray
    q, _ = distributions()["independent"]
    theirs = kinds.Normal(tensor(q.mean), tensor(q.stddev)).to_event(1)
    prior = kinds.Normal(tensor(np.zeros(3, "f")), tensor(np.full(3, 2.0, "f"))).to_event(1)
    one, other = (
        vn.diagnose(**vn.adapters.distributions(*pair))
        for pair in ((theirs, prior), distributions()["independent"])
    )
    assert np.allclose(one.dims["kl_nats"], other.dims["kl_nats"], rtol=1e-5)


class MultivariateNormalLinearOperator:
    """What TensorFlow Probability 0.25 calls its Gaussians, on torch's: beside the jax of these
    tests it does not import."""

    __module__ = "tensorflow_probability.python.distributions.made_up"

    def __init__(self, loc, factor):
        self.own = torch.distributions.MultivariateNormal(loc, scale_tril=factor)

    def mean(self):
        return self.own.mean.numpy()

    def covariance(self):
        return self.own.covariance_matrix.numpy()

    def stddev(self):
        return self.own.stddev.numpy()


class MultivariateNormalDiag(MultivariateNormalLinearOperator):
    __module__ = MultivariateNormalLinearOperator.__module__
    covariance = None  # not asked for


class Independent:
    __module__ = MultivariateNormalLinearOperator.__module__

    def __init__(self, distribution):
        self.distribution = distribution


@pytest.mark.parametrize("name", ["independent", "full", "diagonal"])
def test_distributions_as_tensorflow_probability_has_them(name):
    (normal, _), (full, _) = (distributions()[kind] for kind in ("normal", "full"))
    factor = torch.diag_embed(normal.stddev)
    q, theirs = {
        "independent": (normal, Independent(normal)),
        "full": (full, MultivariateNormalLinearOperator(full.mean, full.scale_tril)),
        "diagonal": (normal, MultivariateNormalDiag(normal.mean, factor)),
    }[name]
    one, other = (vn.diagnose(**vn.adapters.distributions(kind)) for kind in (theirs, q))
    assert np.allclose(one.dims["kl_nats"], other.dims["kl_nats"], rtol=1e-4)
    assert one.totals["kl_nats"] == pytest.approx(other.totals["kl_nats"], rel=1e-4)


class Squashed(torch.distributions.Normal):
    def rsample(self, *shape):
        return super().rsample(*shape).tanh()


@pytest.mark.attack("wrong")
@pytest.mark.parametrize(
    "kind", [Squashed, type("Normal", (), {"__init__": lambda *_: None, "loc": 0, "scale": 1})]
)
def test_what_may_be_no_gaussian_is_refused_whatever_its_name_or_ancestors(kind):
    one = kind(torch.zeros(9, 3), 1.0)
    for distribution in (one, Independent(one)):
        with pytest.raises(ParameterError, match=rf"itself, got a {kind.__name__} of test_adapt"):
            vn.adapters.distributions(distribution)


def test_a_full_gaussian_of_numpyro_with_one_covariance_for_all():
    kinds = importlib.import_module("numpyro.distributions")
    mean = DATA[:, :3].numpy()
    theirs = kinds.MultivariateNormal(mean, covariance_matrix=np.eye(3))
    prior = kinds.MultivariateNormal(0 * mean, covariance_matrix=4 * np.eye(3))
    report = vn.diagnose(**vn.adapters.distributions(theirs, prior))
    expected = vn.diagnose(posterior_mean=mean, posterior_std=1.0, prior_mean=0.0, prior_std=2.0)
    assert np.allclose(report.dims["kl_nats"], expected.dims["kl_nats"], rtol=1e-5)


def test_gaussians_of_numpyro_that_are_expanded():
    kinds = importlib.import_module("numpyro.distributions")
    mean, covariance = np.asarray(DATA[:, :3]), np.diag([1.0, 4.0, 0.25])
    theirs = kinds.MultivariateNormal(np.ones(3), covariance).expand([len(mean)])
    wide = {"prior_mean": 0.0, "prior_std": 2.0}
    for kind in (
        kinds.Normal(0.0, 2.0).expand([3]).to_event(1),
        kinds.Normal(0.0, 2.0).expand([3]),
    ):
        found = vn.adapters.distributions(kinds.Normal(mean, 1.0), kind)
        expected = vn.diagnose(posterior_mean=mean, posterior_std=1.0, **wide)
        report = vn.diagnose(**found)
        assert np.allclose(report.dims["kl_nats"], expected.dims["kl_nats"], rtol=1e-5)
    found = vn.adapters.distributions(kinds.Normal(mean, 1.0).to_event(1), theirs)
    assert found["prior_cholesky"].shape == (len(mean), 3, 3)
    prior = {"prior_mean": np.ones(3), "prior_covariance": covariance}
    expected = vn.diagnose(posterior_mean=mean, posterior_std=1.0, **prior)
    assert vn.diagnose(**found).totals["kl_nats"] == pytest.approx(expected.totals["kl_nats"], 1e-5)


@pytest.mark.parametrize("library", ["pyro", "numpyro"])
def test_a_gaussian_of_low_rank(library):
    kinds = importlib.import_module(f"{library}.distributions")
    tensor = torch.as_tensor if library == "pyro" else np.asarray
    mean, factor = DATA[:, :3], torch.tensor([[1.0], [0.5], [-2.0]])
    given = (tensor(value) for value in (mean, factor.expand(len(mean), 3, 1), torch.ones(3)))
    report = vn.diagnose(**vn.adapters.distributions(kinds.LowRankMultivariateNormal(*given)))
    covariance = factor @ factor.T + torch.eye(3)
    expected = vn.diagnose(posterior_mean=mean, posterior_covariance=covariance)
    assert np.allclose(report.dims["kl_nats"], expected.dims["kl_nats"], rtol=1e-5)


def test_a_mixture_of_distributions_is_refused_with_the_way_that_works():
    categorical = torch.distributions.Categorical(torch.ones(2))
    parts = torch.distributions.Normal(torch.zeros(2), 1.0)
    mixture = torch.distributions.MixtureSameFamily(categorical, parts)
    with pytest.raises(
        ParameterError, match="got a MixtureSameFamily; of a mixture pass prior_mean"
    ):
        vn.adapters.distributions(parts, mixture)
    with pytest.raises(ParameterError, match=r"posterior must be a Normal, .*, got a Laplace$"):
        vn.adapters.distributions(torch.distributions.Laplace(torch.zeros(3), 1.0))


@pytest.fixture(scope="module")
def pythae():
    return importlib.import_module("pythae.models")


@pytest.mark.parametrize("name", vn.adapters.STANDARD)
def test_a_model_of_pythae_has_the_kl_that_its_own_loss_has(pythae, name):
    torch.manual_seed(0)
    kind = getattr(pythae, name)
    config = inspect.signature(kind).parameters["model_config"].annotation
    model = kind(config(input_dim=(1, 28, 28), latent_dim=4))
    images = torch.rand(100, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    report = vn.diagnose(**vn.adapters.pythae(model, images, batch=30))
    own = model.eval()({"data": images}).reg_loss.detach().mean()
    assert report.totals["kl_nats"] == pytest.approx(float(own), rel=1e-4)


@pytest.mark.parametrize("name", vn.adapters.OTHER_LOSS)
def test_a_model_of_pythae_with_another_loss_has_the_same_posterior_and_prior(pythae, name):
    from pythae.data.datasets import BaseDataset

    torch.manual_seed(0)
    kind = getattr(pythae, name)
    config = inspect.signature(kind).parameters["model_config"].annotation
    model = kind(config(input_dim=(12,), latent_dim=4)).eval()
    with torch.no_grad():
        output = model.encoder(DATA)
    q = torch.distributions.Normal(output.embedding, torch.exp(output.log_covariance / 2))
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    found = vn.adapters.pythae(model, BaseDataset(DATA, torch.zeros(300)))
    assert vn.diagnose(**found).totals["kl_nats"] == pytest.approx(float(kl.sum()) / 300, rel=1e-4)


def test_a_vamp_of_pythae_against_its_own_log_prior(pythae):
    torch.manual_seed(0)
    model = pythae.VAMP(pythae.VAMPConfig(input_dim=(12,), latent_dim=2, number_components=7))
    found = vn.adapters.pythae(model, DATA.repeat(10, 1))
    assert found["prior_mean"].shape == (7, 2) and found["prior_weights"].sum() == 1
    report = vn.diagnose(**found)
    with torch.no_grad():
        kl = [float(model.eval()({"data": DATA}).reg_loss.mean()) for _ in range(100)]
    error = np.hypot(report.totals["kl_error"], np.std(kl) / len(kl) ** 0.5)
    assert abs(report.totals["kl_nats"] - np.mean(kl)) < 4 * error < 0.2


def test_a_model_of_pythae_whose_posterior_is_no_gaussian_is_refused(pythae):
    model = pythae.VAE_LinNF(pythae.VAE_LinNF_Config(input_dim=(12,), latent_dim=4))
    with pytest.raises(ParameterError, match=r"one of VAE, .*VAMP, or read by adapters\.module"):
        vn.adapters.pythae(model, DATA)


def test_a_lightning_module_in_its_own_training_loop(tmp_path):
    lightning = importlib.import_module("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.decoder = Plain(), nn.Linear(3, 12)
            self.recorder, self.codes = vn.Recorder(), DiagnosisMetric()

        def training_step(self, batch, _):
            mean, logvar = self.net(batch[0]).values()
            self.codes.update(posterior_mean=mean, posterior_logvar=logvar)
            z = mean + torch.exp(logvar / 2) * torch.randn_like(mean)
            kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(1).mean()
            return (self.decoder(z) - batch[0]).square().sum(1).mean() + kl

        def on_train_epoch_end(self):
            report = self.recorder.record(self.current_epoch, **read(self, encode=self.net))
            assert self.training
            self.log_dict(report.to_dict())
            seen = {f"seen/{name}": value for name, value in self.codes.compute().items()}
            self.log_dict(seen)
            assert len(self.codes.diagnosis._sampled.keys) == 300  # an epoch's
            self.codes.reset()

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 1e-2)

    module = Module()
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(DATA), batch_size=50))
    first, last = (module.recorder.reports[epoch].totals["kl_nats"] for epoch in range(2))
    assert trainer.callback_metrics["kl_nats"] == pytest.approx(last, rel=1e-5)
    assert first != last
    assert trainer.callback_metrics["seen/kl_nats"] == pytest.approx(
        module.codes.report.totals["kl_nats"], rel=1e-5
    )
