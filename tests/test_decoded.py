"""What the decoder makes of each dim, against closed forms."""

import numpy as np
import pandas as pd
import pytest
import torch
from given import arguments
from torch import nn

import vaenotes as vn
from vaenotes.diagnosis.decoded import Drawn, effects
from vaenotes.diagnosis.inputs import Axes
from vaenotes.errors import ParameterError

WEIGHT = torch.tensor([[1.0, 0.5, 0, 0], [0, 1.0, 0, 0], [0.3, 0, 0, 0]])
SPREAD, STD = torch.tensor([2.0, 1, 0, 1]), torch.tensor([0.5, 0.5, 1, 0.5])
EXACT = (WEIGHT**2).sum(0) * (SPREAD**2 + STD**2)
EXACT = (EXACT / EXACT.sum()).numpy()


def linear(z):
    return z @ WEIGHT.to(z.dtype).T


def codes(samples=2000, seed=0):
    """Two dims that a decoder reads, one that is dead, and a live one that it ignores."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 4, generator=generator) * SPREAD


def shares(decode, z, weights=None):
    counted = torch.ones(len(z)) if weights is None else weights
    rows, here = torch.arange(len(z)), torch.device("cpu")
    drawn = Drawn(torch.zeros(len(z)), z, counted.double(), rows, np.inf, here)
    return effects(decode, drawn, Axes(tuple(z.shape), None))


def near(found, error, exact, sigmas=4):
    assert (np.abs(found - exact) <= sigmas * error + 1e-12).all()


def test_of_a_linear_decoder_a_share_is_that_of_the_variance_and_what_it_ignores_has_none():
    report = vn.diagnose(**arguments(codes(), STD), decode=linear)
    near(report.dims["decoder"], report.dims["decoder_error"], EXACT)
    assert (report.dims["decoder_error"][:2] < 0.05).all() and EXACT[0] > 0.7
    assert report.dims["status"].tolist() == ["alive", "alive", "dead", "alive"]
    assert report.dims["decoder"].tolist()[2:] == [0, 0]
    said = f"{report.dims['decoder']['0']:.2f} ± {report.dims['decoder_error']['0']:.2f}"
    assert "decoder" in str(report) and said in str(report) and said in report._repr_html_()
    assert report.to_dict()["dim/0/decoder"] == report.to_xarray()["decoder"].values[0]
    without = vn.diagnose(**arguments(codes(), STD))
    pd.testing.assert_frame_equal(report.dims[without.dims.columns], without.dims)
    assert "decoder" not in str(without)


def test_dims_that_act_by_their_product_alone_have_all_of_it_each():
    """E Var(f | the other dim) = Var f, where both have mean 0."""
    z = codes(3000)[:, :2]
    found, error = shares(lambda z: z[:, 0] * z[:, 1], z)
    near(found, error, 1)
    found, error = shares(lambda z: z[:, 0] * (z[:, 1] + 2), z)  # (4 + 16, 4) of 20
    near(found, error, np.array([1, 0.2]))
    assert (error < 0.1).all()


def test_the_error_is_that_of_other_samples():
    draws = [shares(linear, codes(100, seed) + STD * codes(100, seed + 999) / SPREAD.clamp_min(1))
             for seed in range(200)]  # fmt: skip
    found, error = (np.array(part)[:, :2] for part in zip(*draws, strict=True))
    assert np.allclose(found.std(0) / error.mean(0), 1, atol=0.2)


def test_a_decoder_that_ignores_everything_has_no_shares():
    found, error = shares(lambda z: torch.ones(len(z), 3), codes(50))
    assert not found.any() and not error.any()


def test_a_decoder_gets_whole_codes_and_groups_are_its_dims():
    """Channels of a latent (channel, height, width), of which it reads one at two places."""
    mean = torch.randn(300, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    known = {tuple(code.flatten().tolist()) for code in mean}
    seen = []

    def decode(z):
        seen.append(z)
        return torch.stack([2 * z[:, 1, 3, 0], z[:, 1, 0, 1], z[:, 2, 2, 1]], 1)

    given = arguments(mean, 1e-12, groups=1)
    report = vn.diagnose(**given, decode=decode, compared=200)
    assert {tuple(code.flatten().tolist()) for code in seen[0]} <= known
    assert all(z.shape[1:] == (3, 4, 2) and z.dtype == torch.float32 for z in seen)
    assert not any(z.requires_grad for z in seen)
    near(report.dims["decoder"], report.dims["decoder_error"], np.array([0, 5, 1]) / 6)
    rows = vn.diagnose(**given | {"groups": (2, 1)}, decode=decode, compared=200)
    near(rows.dims["decoder"]["3,1"], rows.dims["decoder_error"]["3,1"], 4 / 6)
    assert rows.dims["decoder"]["1,1"] == rows.dims["decoder"]["3,2"] == 0


def test_batches_merge_and_a_decoder_sees_as_many_as_are_compared():
    whole, some = vn.Diagnosis(compared=100, decode=linear), [
        vn.Diagnosis(compared=100, seed=seed, decode=linear) for seed in range(3)]  # fmt: skip
    for part, batch in zip(some, codes(900).split(300), strict=True):
        part.update(**arguments(batch, STD))
        whole.merge(part)
    dims = whole.compute().dims
    near(dims["decoder"], dims["decoder_error"], EXACT)
    assert whole._drawn.z.shape == (100, 4)
    another = vn.Diagnosis()
    another.update(**arguments(codes(10), STD))
    for first in (whole, vn.Diagnosis(decode=linear)):
        with pytest.raises(ParameterError, match="other must have been given a decode as this"):
            first.merge(another)
    another.merge(whole)
    assert "decoder" not in another.compute().dims


def test_no_state_of_torch_that_a_caller_has_changes_what_a_decoder_is_given():
    given = arguments(codes(50).numpy(), STD.numpy())
    expected = vn.diagnose(**given, decode=linear)
    diagnosis = vn.Diagnosis(decode=lambda z: linear(z) if z.dtype == torch.float32 else None)
    with torch.device("meta"), torch.inference_mode():
        diagnosis.update(**given)
        pd.testing.assert_frame_equal(diagnosis.compute().dims, expected.dims)


def test_samples_count_by_their_weights():
    z = torch.cat([codes(1000), codes(1000, 1) * torch.tensor([0, 1, 1, 1])])
    weights = torch.cat([torch.ones(1000), torch.full((1000,), 0.01)])
    report = vn.diagnose(**arguments(z, 1e-6, weights=weights), decode=linear, compared=2000)
    exact = (WEIGHT**2).sum(0).numpy() * np.array([4, 1, 0, 1])
    near(report.dims["decoder"], report.dims["decoder_error"], exact / exact.sum())
    mask = torch.ones(1000, 4)
    mask[0, 0] = 0
    places = torch.tensor([[1, 1, 0, 0]]).expand(1000, 4)
    for given in (
        arguments(codes(1000), 0.5, weights=mask),
        arguments(codes(4000).reshape(1000, 4, 4), 0.5, weights=mask, groups=2),
        arguments(codes(4000).reshape(1000, 4, 4), 0.5, weights=places, groups=2),
        arguments(codes(4000).reshape(1000, 4, 4), 0.5, weights=places + 1, groups=2),
    ):
        with pytest.raises(ParameterError, match="weights must be of whole samples with decode"):
            vn.diagnose(**given, decode=linear)


@pytest.mark.parametrize(
    ("decode", "words"),
    [
        (3, "decode must be a function of codes, got 3"),
        (lambda z: (z, z), r"a tensor of floats, \(20, ...\), got tuple: wrap it, as in lambda"),
        (lambda z: torch.distributions.Normal(z, 1.0), "got Normal: wrap it"),
        (lambda z: z.argmax(1), "got torch.int64: wrap it"),
        (lambda z: z.to_sparse(), "got torch.sparse_coo: wrap it"),
        (lambda z: z.to("meta"), "got a meta tensor, which has no numbers: wrap it"),
        (lambda z: z.sum(0), r"decode must return \(20, ...\), as its codes are, got \(4,\)"),
        (lambda z: z / 0, "decode must return finite numbers"),
        (lambda z: z.double() * 1e160, r"finite numbers of at most 1e\+150, got \d"),
        (nn.Sequential(nn.Linear(4, 30), nn.Dropout()), r"whatever .* beside it \(put it in eval"),
        (nn.Sequential(nn.Linear(4, 30), nn.BatchNorm1d(30)), r"\(put it in eval mode\), got '"),
        (lambda z: 0.002 * (z + torch.randn_like(z)) + 1, r"\(put it in eval mode\), got '"),
    ],
)
@pytest.mark.attack("line")
def test_what_a_decoder_may_not_be_or_return_is_named(decode, words):
    torch.manual_seed(0)
    with pytest.raises(ParameterError, match=words):
        vn.diagnose(**arguments(codes(19), STD), decode=decode)


def test_a_decoder_of_a_module_is_read_in_its_precision_in_eval_mode_and_left_as_it_was():
    torch.manual_seed(0)
    model = nn.ModuleDict({"up": nn.Linear(6, 8), "back": nn.Linear(4, 3, bias=False)}).double()
    model["drop"] = nn.Dropout()
    model["back"].weight.data = WEIGHT.double()
    model["up"].weight.data *= 3

    def encode(x):
        mean, logvar = model["up"](x).chunk(2, 1)
        return {"mean": mean, "logvar": logvar - 4}

    decode = lambda z: model["drop"](model["back"](z))  # noqa: E731
    given = vn.adapters.module(model, torch.randn(500, 6), encode=encode, decode=decode)
    report = vn.diagnose(**given)
    assert model.training
    assert report.dims["decoder"].tolist()[2:] == [0, 0]
    assert (report.dims["decoder"][:2] > 0.02).all()


def test_a_decoder_that_takes_rows_is_told_which_samples_its_codes_are_of():
    """Each sample's own label scales what is decoded; rows count what has no weight too."""
    labels = 1 + torch.arange(300) % 3
    mean = labels[:, None] * torch.ones(1, 2) + torch.tensor([0.0, 1000.0])
    weights = (torch.arange(300) % 7 > 0).float()
    seen = []

    def decode(z, rows):
        assert rows.dtype == torch.int64 and len(rows) == len(z)
        own = z[:, 0].round() == z[:, 1].round() - 1000  # but where a dim is another sample's
        assert own.any() and torch.equal(z[own, 0].round(), labels[rows][own].float())
        assert (weights[rows] > 0).all()
        seen.append(rows)
        return z[:, :1] * labels[rows][:, None]

    class Taken(nn.Module):
        def forward(self, z, rows):
            return decode(z, rows)

    given = arguments(mean, 1e-3, weights=weights)
    for kind in (decode, lambda z, rows: decode(z, rows), Taken()):
        report = vn.diagnose(**given, decode=kind, compared=200)
        assert report.dims["decoder"]["1"] == 0 < report.dims["decoder"]["0"]
    stream = vn.Diagnosis(decode=decode, compared=100)
    nothing = arguments(mean[:7], 1e-3, weights=torch.zeros(7))
    for some in (slice(100), slice(100, 107), slice(107, 300)):
        part = {name: value[some] for name, value in given.items() if name != "posterior_std"}
        stream.update(**(nothing if some == slice(100, 107) else part | {"posterior_std": 1e-3}))
    seen.clear()
    stream.compute()
    assert torch.cat(seen).max() > 250
    places = mean.reshape(300, 2, 1, 1).expand(-1, 2, 2, 3)

    def wide(z, rows):
        assert z.shape[1:] == (2, 2, 3)
        return decode(z[:, :, 0, 0], rows)

    vn.diagnose(**arguments(places, 1e-3, weights=weights, groups=1), decode=wide, compared=50)
    model = nn.Linear(2, 2).double()
    of_model = vn.adapters.module(
        model, mean, encode=lambda x: {"mean": x, "std": 0 * x + 1e-3}, decode=wide_of(labels)
    )
    assert vn.diagnose(**of_model).dims["decoder"]["1"] == 0
    other = vn.Diagnosis(decode=decode, seed=1)
    fresh = vn.Diagnosis(decode=decode, seed=2)
    other.update(**arguments(mean, 1e-3))
    fresh.merge(other)
    assert torch.equal(fresh._drawn.rows, other._drawn.rows)
    with pytest.raises(ParameterError, match="decode must not take rows where a Diagnosis merges"):
        stream.merge(other)


def wide_of(labels):
    def decode(z, rows):
        assert z.dtype == torch.float64
        own = z[:, 0].round() == z[:, 1].round() - 1000
        assert torch.equal(z[own, 0].round(), labels[rows][own].double())
        return z[:, :1] * labels[rows][:, None]

    return decode


@pytest.mark.attack("wrong")
def test_shares_of_weighted_samples_are_those_of_weighted_variances():
    """Half of the samples count nine times, and differ in one dim alone."""
    heavy = torch.arange(1000) < 500
    mean = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    mean[heavy, 0] = 0
    weights = torch.where(heavy, 9.0, 1.0)
    away = mean - (weights[:, None] * mean).sum(0) / weights.sum()
    variance = (weights[:, None] * away.square()).sum(0)
    given = arguments(mean, 0.01, weights=weights)
    found = [vn.diagnose(**given, decode=lambda z: z, seed=seed).dims for seed in range(8)]
    share = np.mean([dims["decoder"]["0"] for dims in found])
    error = np.mean([dims["decoder_error"]["0"] for dims in found])
    assert share == pytest.approx(float(variance[0] / variance.sum()), abs=3 * error)


def test_a_decoder_that_fails_is_told_in_a_line_what_it_is_given():
    labels = torch.randn(50, 2)
    given = arguments(codes(50), STD)
    with pytest.raises(
        ParameterError, match=r"lambda z, rows: decoder\(z, labels\[rows\]\)"
    ) as error:
        vn.diagnose(**given, decode=lambda z: linear(torch.cat([z, labels], 1)))
    assert "decode must take any 51 of the codes, (51, 4), got RuntimeError: Sizes of" in str(error)
    assert isinstance(error.value.__cause__, RuntimeError)
    with pytest.raises(ParameterError, match=r"got TypeError: .* missing 1 required"):
        vn.diagnose(**given, decode=lambda z, labels: z)


def test_a_decoder_may_use_its_memory_again_and_change_what_it_is_given():
    buffer, size = torch.empty(2000, 3), torch.tensor([1.0, 0.5, 0.1])

    def again(z):
        z.mul_(size)
        buffer[: len(z)] = z
        return buffer[: len(z)]

    given = {"posterior_mean": torch.randn(1000, 3), "posterior_std": 0.2}
    one, other = (vn.diagnose(**given, decode=of).dims for of in (again, lambda z: z * size))
    assert np.allclose(one["decoder"], other["decoder"]) and one["decoder"].iloc[0] > 0.5
