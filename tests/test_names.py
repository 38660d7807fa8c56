"""Names of rows and columns: those that differ are refused, as all is matched by place."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from given import arguments, codes

import vaenotes as vn
from vaenotes.errors import ParameterError

ABC, CBA = list("abc"), list("cba")
MEAN, STD = (pd.DataFrame(value.numpy(), columns=ABC) for value in codes(20, 3))
LABELLED = {"dims": ("sample", "dim"), "coords": {"dim": ABC, "sample": range(5, 25)}}
ARRAY, OTHER = (xr.DataArray(value.numpy(), **LABELLED) for value in codes(20, 3))
ONE, THREE = pd.Series([1.0, 2, 3], ABC), np.eye(3)
ORDER = "c, b, a"


@pytest.mark.attack("wrong")
@pytest.mark.parametrize(
    ("given", "argument", "words"),
    [
        (arguments(MEAN, STD[CBA]), "posterior_std", ORDER),
        (arguments(MEAN, 0.5, prior_mean=ONE[CBA], prior_std=1.0), "prior_mean", ORDER),
        (arguments(MEAN.to_numpy(), 0.5, prior_mean=ONE, prior_std=ONE[CBA]), "prior_std", ORDER),
        (arguments(MEAN, STD.iloc[::-1]), "posterior_std", "0 at 0, or none, as .to_numpy()"),
        (arguments(MEAN[:-1], STD[1:]), "posterior_std", "0 at 0, or none, as .to_numpy() gives"),
        (arguments(MEAN.drop(3), STD.drop(4)), "posterior_std", "4 at 3"),
        (arguments(MEAN[10:], STD[:10]), "posterior_std", "10, 11, 12"),
        (arguments(MEAN[::2], STD[:10]), "posterior_std", "0, 2, 4"),
        (arguments(MEAN[10:].rename("s{}".format), STD[:10].rename("s{}".format)),
         "posterior_std", "s10, s11"),
        (arguments(MEAN[:-1], STD[:-1], prior_mean=MEAN[1:], prior_std=1.0), "prior_mean", "0 at"),
        (arguments(MEAN[:10], 0.5, weights=STD["a"][10:]), "weights", "0, 1, 2"),
        (arguments(MEAN.set_axis(range(3), axis=1), STD.set_axis(list("210"), axis=1)),
         "posterior_std", "0, 1, 2, in their order"),
        (arguments(MEAN, STD.set_axis(range(20)[::-1]).rename(str)), "posterior_std", "0 at 0"),
        (arguments(MEAN, STD.set_axis(list("CAB"), axis=1)), "posterior_std", "a, b, c, in"),
        (arguments(MEAN.set_axis(["mu_2", "mu_10", "mu_1"], axis=1),
                   STD.set_axis(["sd_1", "sd_2", "sd_10"], axis=1)), "posterior_std", "mu_2, mu"),
        (arguments(MEAN.set_axis(range(3), axis=1), STD.set_axis(["z2", "z1", "z0"], axis=1)),
         "posterior_std", "0, 1, 2"),
        (arguments(MEAN, STD, weights=STD["a"].iloc[::-1]), "weights", "rows of posterior_mean"),
        (arguments(MEAN.set_axis([2, 1, 0], axis=1), STD.set_axis(range(3), axis=1)),
         "posterior_std", "2, 1, 0, in their order, or none, as .to_numpy() gives it, got 0, 1, 2"),
        (arguments(MEAN.set_axis(range(3), axis=1), STD.set_axis([1, 2, 3], axis=1)),
         "posterior_std", "0, 1, 2, in their order"),
        (arguments(ARRAY, OTHER[:, ::-1]), "posterior_std", ORDER),
        (arguments(ARRAY, OTHER[::-1]), "posterior_std", "5 at 0, or none, as"),
        ({"posterior_mean": MEAN, "posterior_covariance": pd.DataFrame(THREE, CBA, CBA)},
         "posterior_covariance", ORDER),
        (arguments(MEAN, 0.5, prior_mean=MEAN[:2], prior_std=STD[:2].iloc[::-1],
                   prior_weights=[0.5, 0.5]), "prior_std", "components of prior_mean, 0, 1"),
    ],
)  # fmt: skip
def test_arguments_of_other_names_are_refused(given, argument, words):
    with pytest.raises(ParameterError) as error:
        vn.diagnose(**given)
    assert str(error.value).startswith(f"{argument} must have the ") and words in str(error.value)


def test_the_line_says_whose_names_are_wanted_and_which_were_given():
    with pytest.raises(ParameterError) as error:
        vn.diagnose(**arguments(MEAN, STD[CBA]))
    wanted = "posterior_std must have the columns of posterior_mean, a, b, c, in their order"
    assert str(error.value) == f"{wanted}, or none, as .to_numpy() gives it, got c, b, a"


SQUARE = xr.DataArray(codes(20, 9)[0].reshape(20, 3, 3).numpy(), dims=("sample", "node", "dim"))
WIDTHS = np.exp(SQUARE)
CROSSED = ("sample", "dim", "node")


@pytest.mark.attack("wrong")
@pytest.mark.parametrize(
    "rows",
    [[row for _, row in MEAN.iterrows()], list(ARRAY), [[row for _, row in MEAN.iterrows()]]],
)
def test_names_of_rows_in_a_list_are_refused_as_they_would_be_lost(rows):
    words = "posterior_mean must be one array, got a list with names: pandas.DataFrame or"
    with pytest.raises(ParameterError, match=words):
        vn.diagnose(posterior_mean=rows, posterior_std=ONE[CBA])
    assert vn.diagnose(posterior_mean=list(MEAN.to_numpy()), posterior_std=ONE).dims.index[0] == "a"


@pytest.mark.attack("wrong")
@pytest.mark.parametrize(
    ("given", "argument", "words"),
    [
        (arguments(SQUARE, WIDTHS.transpose(*CROSSED)), "posterior_std", "dim as axis 2"),
        (arguments(SQUARE, 1.0, prior_mean=0.0, prior_std=WIDTHS[0].T), "prior_std", "dim as"),
        (arguments(SQUARE[:3, 0], WIDTHS[0].rename(node="dim", dim="other")),
         "posterior_std", "dim as axis 1"),
        (arguments(SQUARE[:3, 0], 1.0, weights=WIDTHS[0, 0]), "weights", "dim as axis 1"),
        (arguments(SQUARE[:3], 1.0, weights=WIDTHS[:3, 0].T), "weights", "dim as axis 2"),
        (arguments(MEAN[:3].rename_axis(columns="dim"), STD[:3].rename_axis(index="dim")),
         "posterior_std", "dim as axis 1, as posterior_mean has it, got it as axis 0"),
    ],
)  # fmt: skip
def test_axes_in_another_order_are_refused(given, argument, words):
    with pytest.raises(ParameterError) as error:
        vn.diagnose(**given)
    assert str(error.value).startswith(f"{argument} must have {words}")


@pytest.mark.attack("wrong")
def test_batches_whose_axes_are_in_another_order_are_refused():
    stream, other = vn.Diagnosis(), vn.Diagnosis()
    stream.update(**arguments(SQUARE, 1.0))
    other.update(**arguments(SQUARE.transpose(*CROSSED), 1.0))
    for refused in (
        lambda: stream.update(**arguments(SQUARE.transpose(*CROSSED), 1.0)),
        lambda: stream.merge(other),
    ):
        with pytest.raises(ParameterError, match="posterior_mean must have dim as axis 2, as thos"):
            refused()


@pytest.mark.parametrize(
    "given",
    [
        arguments(MEAN, STD, prior_mean=ONE, prior_std=ONE.to_numpy(), weights=STD["a"]),
        arguments(MEAN[3:], STD.to_numpy()[3:]),
        arguments(MEAN.rename("s{}".format), pd.DataFrame(STD.to_numpy())),
        arguments(MEAN, STD.set_axis([3, 4, 5], axis=1)),
        arguments(MEAN, STD.set_axis(list("012"), axis=1), prior_mean=pd.Series([1.0, 2, 3]),
                  prior_std=1.0),
        arguments(MEAN, STD.set_axis(["1 c", "2 b", "3 a"], axis=1)),
        arguments(MEAN, STD.set_axis(list("ABC"), axis=1)),
        arguments(ARRAY, xr.DataArray(OTHER.values), prior_mean=xr.DataArray(np.ones(3)),
                  prior_std=1.0),
        arguments(ARRAY, OTHER, prior_mean=xr.DataArray(np.ones(3), dims="latent"), prior_std=1.0),
        arguments(pd.DataFrame(MEAN.to_numpy()), STD),
        arguments(ARRAY, OTHER),
        arguments(MEAN, STD.add_prefix("sd_"), prior_mean=ONE.add_prefix("p_"), prior_std=ONE),
        {"posterior_mean": MEAN, "posterior_covariance": pd.DataFrame(THREE, ABC, ABC)},
    ],
)  # fmt: skip
def test_names_that_are_the_same_or_are_none_are_taken(given):
    assert list(vn.diagnose(**given).dims.index) == ABC


@pytest.mark.attack("wrong")
def test_batches_and_merged_streams_of_other_names_are_refused_and_change_nothing():
    stream, other = vn.Diagnosis(), vn.Diagnosis(seed=1)
    stream.update(**arguments(MEAN, STD))
    other.update(**arguments(MEAN[CBA], STD[CBA]))
    before = stream.compute()
    words = "posterior_mean must have the columns of those before, a, b, c, .* got c, b, a"
    for refused in (
        lambda: stream.update(**arguments(MEAN[CBA], STD[CBA])),
        lambda: stream.merge(other),
    ):
        with pytest.raises(ParameterError, match=words):
            refused()
    frame = MEAN.set_axis(range(3), axis=1)
    counted = vn.Diagnosis()
    counted.update(**arguments(frame, STD.to_numpy()))
    with pytest.raises(ParameterError, match="must have the columns of those before, 0, 1, 2"):
        counted.update(**arguments(frame.set_axis(list("210"), axis=1), STD.to_numpy()))
    with pytest.raises(ParameterError, match="got other_a, other_b, other_c"):
        stream.update(**arguments(MEAN.add_prefix("other_"), STD))
    pd.testing.assert_frame_equal(stream.compute().dims, before.dims)
    stream.update(**arguments(MEAN.to_numpy(), STD))
    assert list(stream.compute().dims.index) == ABC


@pytest.mark.attack("line")
def test_reports_of_other_names_are_refused():
    recorder = vn.Recorder()
    recorder.record(0, **arguments(MEAN, STD))
    with pytest.raises(ParameterError, match=r"of the earlier report \(since\), a, b, c, in"):
        recorder.record(1, **arguments(MEAN[CBA], STD[CBA]))
    with pytest.raises(ParameterError, match="diagnosis must be a Diagnosis or None, got 'Report'"):
        recorder.record(1, recorder.reports[0])
    with pytest.raises(ParameterError, match=r"\(since\) must have its dims as they were, \['a', "):
        recorder.reports[0].dims.sort_index(ascending=False, inplace=True)
        recorder.record(1, **arguments(MEAN, STD))


@pytest.mark.parametrize("named", [0, 1])
def test_names_need_not_be_given_at_every_epoch(named):
    """The second dim's prior shrinks, in both; by place, as names are not known of both."""
    recorder, mean, std = vn.Recorder(), 0 * MEAN, 0 * STD
    for epoch, width in enumerate((1.0, 0.1)):
        given = arguments(mean + 0, std + np.array([1.0, width, 0.1]), prior_mean=np.zeros(3))
        given["prior_std"] = np.array([1.0, width, 0.1])
        if epoch != named:
            given = {name: np.asarray(value) for name, value in given.items()}
        report = recorder.record(epoch, **given)
    assert report.dims["status"].tolist() == ["dead", "free-riding", "dead"]
    assert list(report.dims.index) == (ABC if named else list("012"))


def channels(names, std, **rest):
    """Two nodes of these dims; what each is in the order of "uv"."""
    std = xr.DataArray([[*std]] * 2, dims=("node", "dim"), coords={"dim": list(names)})
    mean = xr.DataArray(np.zeros((30, 2, 2)), dims=("x", *std.dims), coords=std.coords)
    return arguments(mean, 0 * mean + std, prior_mean=np.zeros((2, 2)), prior_std=std, **rest)


@pytest.mark.attack("wrong")
def test_an_earlier_report_of_other_dims_is_refused():
    old = vn.diagnose(**channels("uv", [1, 0.1]))
    status = vn.diagnose(**channels("uv", [0.1, 0.1]), since=old).dims["status"]
    assert list(status) == ["free-riding", "dead"] * 2
    with pytest.raises(ParameterError, match=r"names along axis 2 of the earlier report \(since\)"):
        vn.diagnose(**channels("vu", [0.1, 0.1]), since=old)
    for first, then in (((1, 2), (2, 1)), (1, 2), (2, 1)):
        old = vn.diagnose(**arguments(torch.zeros(30, 2, 2), 1.0), groups=first)
        with pytest.raises(ParameterError, match=r"groups must be \(.*\), as in the earlier repo"):
            vn.diagnose(**arguments(torch.zeros(30, 2, 2), 1.0), groups=then, since=old)
    pooled = vn.diagnose(**channels("uv", [1, 0.1]), groups=2)
    assert list(pooled.dims.index) == ["u", "v"]
    with pytest.raises(ParameterError, match="names along axis 2 of the earlier report"):
        vn.diagnose(**channels("vu", [0.1, 0.1]), groups=2, since=pooled)


@pytest.mark.attack("wrong")
@pytest.mark.parametrize("names", [["a", "a", "b"], ["a,b", "a_b", "c"], [1, "1", "b"]])
def test_dims_that_would_have_one_name_are_refused(names):
    with pytest.raises(ParameterError, match="posterior_mean must have different names of dims"):
        vn.diagnose(**arguments(MEAN.set_axis(names, axis=1), 0.5))
    axes = torch.zeros(20, 2, 2)  # whose places have commas
    assert "dim/1_0/ratio" in vn.diagnose(**arguments(axes, 0.5)).to_dict()


def test_of_pooled_places_dims_have_the_names_of_their_axis():
    mean = xr.DataArray(codes(20, 6)[0].reshape(20, 3, 2).numpy(), dims=("sample", "dim", "place"))
    report = vn.diagnose(**arguments(mean.assign_coords(dim=ABC), 0.5, groups=1))
    assert list(report.dims.index) == ABC
