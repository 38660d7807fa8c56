"""Arguments of other shapes and kinds."""

import math

import jax
import numpy as np
import pandas as pd
import pytest
import torch
from given import agree, arguments, codes

import vaenotes as vn
from vaenotes.errors import ParameterError


def test_one_number_or_one_for_each_dim_will_do():
    mean, _ = codes(100, 3)
    one = vn.diagnose(**arguments(mean, 0.5, prior_mean=0.0, prior_std=torch.tensor([1.0, 2, 3])))
    std, prior_std = torch.full((100, 3), 0.5), torch.tensor([1.0, 2, 3]).expand(100, 3)
    every = vn.diagnose(**arguments(mean, std, prior_mean=0 * mean, prior_std=prior_std))
    pd.testing.assert_frame_equal(one.dims, every.dims)
    shared = 0.25 * torch.eye(3)
    covariance = vn.diagnose(posterior_mean=mean, posterior_covariance=shared, prior_mean=0.0,
                             prior_covariance=torch.diag(torch.tensor([1.0, 4, 9])))  # fmt: skip
    agree(covariance, one, tolerance=1e-6)


def test_what_broadcasts_will_do():
    """As many axes as the latent or the codes have, of these sizes or 1."""
    mean, std = (value.reshape(40, 3, 4, 5) for value in codes(40, 60))
    prior_mean, prior_std = torch.arange(3.0)[:, None, None], std[0, :, :1] + 1
    width, steps = std[:, :, :1, :1], std[:, :, 0, 0] > 0.5
    every = {"prior_mean": prior_mean.expand(3, 4, 5), "prior_std": prior_std.expand(3, 4, 5)}
    whole = vn.diagnose(
        **arguments(mean, width.expand(40, 3, 4, 5), weights=steps, **every), compared=40
    )
    steps = steps[..., None, None]
    few = {"prior_mean": prior_mean, "prior_std": prior_std[None]}
    report = vn.diagnose(**arguments(mean, width, weights=steps, **few), compared=40)
    pd.testing.assert_frame_equal(report.dims, whole.dims)
    pooled = vn.diagnose(**arguments(mean, std[0, :, :1, :1], groups=-3))
    agree(pooled, vn.diagnose(**arguments(mean, std[:1, :, :1, :1].expand(mean.shape), groups=1)))
    mixture = {"prior_weights": [0.5, 0.5], "prior_mean": torch.arange(6.0).reshape(2, 3, 1, 1)}
    one, other = (
        vn.diagnose(**arguments(mean, 1.0, **mixture, prior_std=given), compared=40)
        for given in (1.0, torch.ones(2, 3, 4, 5))
    )
    pd.testing.assert_frame_equal(one.dims, other.dims)
    with pytest.raises(ParameterError, match=r"prior_mean must be one number, \(3, 4, 5\) or"):
        vn.diagnose(**arguments(mean, 1.0, prior_mean=torch.zeros(5), prior_std=1.0))


def test_columns_of_a_frame_keep_their_names():
    mean, std = codes(100, 3)
    frame = pd.DataFrame(mean.numpy(), columns=["size", "hue", "x"])
    report = vn.diagnose(**arguments(frame, pd.DataFrame(std.numpy())))
    assert list(report.dims.index) == ["size", "hue", "x"]
    assert list(report.to_xarray()["dim"].values) == ["size", "hue", "x"]


@pytest.mark.parametrize("kind", ["Float64", "Float32", object])
def test_pandas_own_numbers_will_do(kind):
    mean, std = (pd.DataFrame(value.numpy()) for value in codes(100, 3))
    own, expected = mean.astype(kind), vn.diagnose(**arguments(mean, std))
    agree(vn.diagnose(**arguments(own, std.astype(kind), weights=own[0].abs() * 0 + 1)), expected)
    with pytest.raises(ParameterError, match=r"posterior_mean must be finite.* got nan at"):
        vn.diagnose(**arguments(own.where(mean > 0), std))
    for other in (own.astype(str), own.astype(complex).astype(object)):
        with pytest.raises(ParameterError, match="must be a tensor or array of real numbers"):
            vn.diagnose(**arguments(other, std))


def test_bfloat16_of_jax_will_do():
    mean, std = codes(100, 3)
    of_jax = jax.numpy.asarray(mean.numpy(), jax.numpy.bfloat16)
    rounded = vn.diagnose(**arguments(of_jax, std))
    agree(rounded, vn.diagnose(**arguments(mean.bfloat16(), std)))


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_means_whose_digits_are_coarser_than_their_posteriors_are_hinted_at(kind):
    step = {"bfloat16": 0.125, "float16": 0.015625}[kind]  # of numbers from 16 to 32
    mean = 20 + codes(200, 1)[0][:, :1].expand(-1, 2) * 0
    mean[:, 1] = 0.0
    dtype = getattr(torch, kind)
    for factor in (0.9, 1.1):
        std = torch.tensor([factor * step, 1e-5])
        given = arguments(mean.to(dtype), std, prior_mean=mean[0], prior_std=std)
        stream = vn.Diagnosis()
        stream.update(**given | {"posterior_mean": given["posterior_mean"][:100]})
        stream.update(**given | {"posterior_mean": mean[100:]})
        merged = vn.Diagnosis()
        merged.merge(stream)
        for report in (vn.diagnose(**given), merged.compute()):
            said = f"posterior_mean is {kind}, whose steps near 20 are wider than the posterior's"
            assert (said in str(report)) == ("steps" in str(report)) == (factor < 1)
        assert "steps" not in str(vn.diagnose(**given | {"posterior_mean": mean}))
    other = mean.numpy().astype(np.float16)
    if kind == "bfloat16":
        other = jax.numpy.asarray(mean.numpy(), jax.numpy.bfloat16)
    assert f"is {kind}" in str(vn.diagnose(posterior_mean=other, posterior_std=1e-3))


@pytest.mark.parametrize(
    ("logvar", "hint"),
    [
        (codes(50, 3)[1], "no posterior_logvar is near 0: is it a std?"),
        (
            codes(50, 3)[1].clamp_min(0.5) - 0.5,
            "no posterior_logvar is ever below 0: is it a ReLU's?",
        ),
        (codes(50, 3)[1] - 0.5, None),
    ],
)
def test_a_log_variance_that_looks_like_something_else_is_hinted_at(logvar, hint):
    report = vn.diagnose(posterior_mean=torch.zeros(50, 3), posterior_logvar=logvar)
    found = [line for line in report.hints if "posterior_logvar" in line]
    assert (hint is None and not found) or hint in found[0]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.attack("wrong")
def test_what_is_infinite_is_refused_in_any_precision_and_a_stream_goes_on(kind):
    fine, wide = torch.randn(20, 2).to(kind), torch.zeros(3, 1100, dtype=kind)
    for at, size in (((5, 0), math.inf), ((0, 1), -math.inf)):
        bad = fine.clone()
        bad[at] = size
        wide[at[1], at[0]] = size
        with pytest.raises(ParameterError, match=r"prior_mean must be finite.*, got -?inf at \("):
            vn.diagnose(posterior_mean=fine, posterior_std=1.0, prior_mean=bad, prior_std=1.0)
        stream = vn.Diagnosis()
        stream.update(posterior_mean=fine, posterior_std=1.0)
        with pytest.raises(ParameterError, match="posterior_mean must be finite"):
            stream.update(posterior_mean=bad, posterior_std=1.0)
        assert stream.compute().totals["kl_nats"] > 0
    with pytest.raises(ParameterError, match=r"posterior_mean must be finite.* more such"):
        vn.diagnose(posterior_mean=wide, posterior_std=1.0)


def test_where_few_samples_are_compared_the_report_says_so():
    mean = torch.randn(1000, 1)
    for compared, said in ((49, True), (50, False)):
        report = vn.diagnose(posterior_mean=mean, posterior_std=0.3, compared=compared)
        assert ("Fewer than 50 samples are compared" in str(report)) == said


def test_a_list_of_two_batches_looks_like_two_samples():
    batches = [torch.randn(150, 3).tolist()] * 2
    report = vn.diagnose(posterior_mean=batches, posterior_std=1.0)
    assert "Fewer samples than dims: is the first axis that of samples?" in str(report)
    for given in ([torch.zeros(150, 3)] * 2, (np.zeros((150, 3)),) * 2):
        with pytest.raises(ParameterError, match=r"must be one array, got a .* of 2"):
            vn.diagnose(posterior_mean=given, posterior_std=1.0)


def test_nothing_depends_on_the_state_that_a_caller_has_torch_in():
    mean = codes(50, 2)[0].numpy()
    expected = vn.diagnose(posterior_mean=mean, posterior_std=0.5)
    with torch.device("meta"), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = vn.diagnose(posterior_mean=mean, posterior_std=0.5)
    pd.testing.assert_frame_equal(found.dims, expected.dims)


def test_nested_tensors_are_one_line():
    ragged = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    with pytest.raises(ParameterError, match="posterior_mean must be a tensor or array of real"):
        vn.diagnose(posterior_mean=ragged, posterior_std=1.0)
