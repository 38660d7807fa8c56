"""Beds of nails that are made up, so that what they should be found to be is known."""

import numpy as np
import pytest
import torch
from scipy.special import erf
from torch import Tensor

from vaenotes.config import Config
from vaenotes.data.dataset import Dataset
from vaenotes.data.load import load, load_split
from vaenotes.data.sprites import render
from vaenotes.kl import Diagonal
from vaenotes.lab import nails, pictures
from vaenotes.lab.quantities import squared_distances

BITS = 11


class Reader:
    """A stand-in for a model of black and white pictures of one row: every pixel is a node of one
    dim, whose mean is `scale` times the pixel, and whose std is 1. It decodes `sharp` times what
    it is given, as logits."""

    likelihood = "bernoulli"

    def __init__(self, scale: float, sharp: float = 1.0):
        self.scale, self.sharp = scale, sharp

    def encode(self, images: Tensor) -> Diagonal:
        mean = self.scale * images[..., None]
        return Diagonal(mean, torch.zeros_like(mean))

    def decode(self, z: Tensor) -> Tensor:
        return self.sharp * z.flatten(-2)


@pytest.fixture(scope="module")
def corners():
    """Every picture of BITS pixels, in an order drawn; the factors are the pixels, and
    whether the first three are lit."""
    bits = (np.arange(2**BITS)[:, None] >> np.arange(BITS) & 1).astype(np.float32)
    bits = np.random.default_rng(0).permutation(bits)
    names = (*(f"bit {i}" for i in range(BITS)), "lit")
    factors = np.column_stack([bits, bits[:, :3].all(1).astype(np.float32)])
    return Dataset("corners", (255 * bits).astype(np.uint8)[:, None], factors, names, ())


def upper(x):
    """The probability that a standard normal number is above x."""
    return (1 - erf(x / np.sqrt(2))) / 2


def test_nails_at_the_corners_of_a_cube_are_confused_as_often_as_a_formula_says(corners):
    """Among all corners of side a, a sample stays with its own if no coordinate crosses the
    middle: with Phi(a / 2) for each."""
    side = 3.0
    found = nails.bed(Reader(side), corners)
    assert found["count"].values.tolist() == [512, 2048]
    share = (1 - upper(side / 2)) ** BITS
    error = np.sqrt(share * (1 - share) / nails.PROBES)
    assert abs(float(found.matched_back[-1]) - share) < 3 * error
    assert found.matched_back[0] > share + 3 * error  # of a quarter of the corners
    assert float(found.nearest[-1]) == pytest.approx(side)
    assert found.nearest[0] >= found.nearest[-1]


def test_what_is_confused_differs_in_the_coordinates_that_crossed(corners):
    """A picture taken for another differs in few pixels, and any two in half of them; a factor
    differs where its pixel does."""
    found = nails.bed(Reader(3.0), corners)
    taken = found.taken_for.values
    factors, own = corners.factors, np.arange(nails.PROBES)
    assert (taken != own).mean() == pytest.approx(1 - float(found.matched_back[-1]))
    wrong, bits = taken != own, factors[:, :BITS]
    differ = abs(factors[taken] - factors[own])[wrong]
    few = np.median(differ[:, :BITS].sum(1))
    assert float(found.confused_pixels) in {np.float32(few / half) for half in (5, 5.5, 6)}
    any_two = [2 * p * (1 - p) for p in (*[1 / 2] * BITS, 1 / 8)]
    np.testing.assert_allclose(found.confused_factors, differ.mean(0) / any_two, rtol=0.2)
    _, z = nails.probe(Reader(3.0), corners)
    assert ((z.numpy()[wrong, :, 0] > 1.5) == bits[taken][wrong]).all()


def test_what_a_confusion_costs_is_what_decoding_its_sample_does(corners):
    """Logits b z: softplus(b z) - x b z, a pixel each, less the same of the mean."""
    model = Reader(3.0, sharp=2.0)
    found = nails.bed(model, corners)
    _, z = nails.probe(model, corners)
    x = corners.factors[: nails.PROBES, :BITS].astype(float)
    lost = [np.logaddexp(0, 2 * c) - x * 2 * c for c in (z.numpy()[:, :, 0].astype(float), 3 * x)]
    cost = (lost[0] - lost[1]).sum(1)
    wrong = found.taken_for.values != np.arange(nails.PROBES)
    assert float(found.confused_cost) == pytest.approx(cost[wrong].mean(), rel=1e-4)
    assert cost[wrong].mean() > cost[~wrong].mean() + 1


def test_nails_far_apart_are_never_confused_and_there_is_nothing_to_tell_of_confusions(corners):
    found = nails.bed(Reader(40.0), corners)
    assert (found.matched_back == 1).all() and (found.taken_for == np.arange(nails.PROBES)).all()
    for name in ("confused_pixels", "confused_cost", "confused_factors"):
        assert found[name].isnull().all()


def test_codes_that_are_all_the_same_are_matched_back_by_chance_at_most(corners):
    found = nails.bed(Reader(0.0), corners)
    assert (found.matched_back <= 3 / nails.PROBES).all() and (found.nearest < 1e-6).all()


def test_a_model_that_diverged_has_no_bed(corners):
    found = nails.bed(Reader(np.nan), corners)
    assert all(found[name].isnull().all() for name in found)


def test_the_nearest_others_of_a_cloud_are_those_that_brute_force_finds(monkeypatch):
    """Also where a block begins or ends among the points' own means, or at a count."""
    monkeypatch.setattr(nails, "BLOCK", 37)
    rng = np.random.default_rng(1)
    means, std = rng.standard_normal((300, 3)), rng.uniform(0.1, 0.5, (90, 3))
    z, upto = means[:90] + std * rng.standard_normal((90, 3)), [50, 64, 300]
    own, other, place = nails.nearest_others(z, std, means, upto)
    every = (((z[:, None] - means) / std[:, None]) ** 2).sum(-1)
    np.testing.assert_allclose(own, np.diag(every))
    np.fill_diagonal(every, np.inf)
    for row, count in enumerate(upto):
        np.testing.assert_allclose(other[row], every[:, :count].min(1))
        np.testing.assert_array_equal(place[row], every[:, :count].argmin(1))


def test_distances_keep_their_digits_far_from_zero():
    rng = np.random.default_rng(2)
    m = (1000 + rng.standard_normal((20, 4))).astype(np.float32)
    s = np.full((20, 4), 0.01, np.float32)
    expected = (((m[:, None].astype(float) - m) / 0.01) ** 2).sum(-1)
    np.testing.assert_allclose(squared_distances(m, m, s), expected, rtol=1e-5, atol=1e-2)


def test_every_different_picture_is_there_once_those_held_out_first(monkeypatch):
    monkeypatch.setattr(nails, "GRID", 3000)
    monkeypatch.setattr(nails, "BLOCK", 700)
    own, drawn = load_split("sprites", 64, size=16), load("sprites", images=3000, size=16)
    found = nails.distinct(own, "sprites")
    ordered = (own.images[own.measured_on], own.images[own.trained_on], drawn.images)
    rows = [tuple(row) for row in np.concatenate(ordered).reshape(-1, 256)]
    assert [tuple(row) for row in found.images.reshape(-1, 256)] == list(dict.fromkeys(rows))
    assert found.held_out == 0
    np.testing.assert_array_equal(render(found.factors.astype(int), 16), found.images)


def test_data_that_cannot_be_drawn_have_no_more_pictures_than_there_are():
    own = load("digits", images=200, size=16)
    assert len(nails.distinct(own, "digits").images) == 200


def test_counts_grow_fourfold_up_to_all():
    assert [nails.counts(total) for total in (64, 512)] == [[64], [512]]
    assert nails.counts(1023) == [1023] and nails.counts(1024) == [512, 1024]
    assert nails.counts(17_000) == [512, 2048, 8192, 17_000]


def test_curves_draw_every_replica(corners):
    beds = {"near": nails.bed(Reader(3.0), corners).expand_dims(replica=2)}
    matched, nearest, differ, _ = nails.curves(beds).axes
    assert len(matched.lines) == len(nearest.lines) == 2 and len(differ.lines) == 3
    np.testing.assert_allclose(matched.lines[0].get_ydata(), beds["near"].matched_back[0])
    np.testing.assert_allclose(nearest.lines[1].get_ydata(), beds["near"].nearest[1])
    np.testing.assert_allclose(differ.lines[1].get_xdata(), beds["near"].confused_factors[1])
    assert [text.get_text() for text in differ.get_yticklabels()] == list(corners.factor_names)


def test_what_is_told_of_confusions_is_of_the_median_replica(corners):
    found = nails.bed(Reader(3.0), corners).expand_dims(replica=3).copy(deep=True)
    found.confused_factors[:] = 0.5
    found.confused_factors[:, 4] = [0.7, 0.9, 0.8]
    found.confused_factors[:, 7] = [0.1, 0.3, 0.1]
    found.confused_factors[2, 1] = 9.0
    told = nails.told(found)
    assert (told["pictures"], told["log_pictures"]) == (2048, pytest.approx(11 * np.log(2)))
    assert (told["most_confused"], told["least_confused"]) == ("bit 4", "bit 7")
    shares = told["most_confused_share"], told["least_confused_share"]
    assert shares == pytest.approx((0.8, 0.1))
    assert (told["probes"], told["bed_replicas"]) == (nails.PROBES, 3)


def test_confusions_show_an_image_and_what_it_was_taken_for():
    bits = np.unique(np.random.default_rng(3).integers(0, 2, (900, 16), np.uint8), axis=0)
    factors = bits[:, :1].astype(np.float32)
    corners = Dataset("some", 255 * bits.reshape(-1, 4, 4), factors, ("one",), ())
    model = Reader(3.0)
    axes = np.reshape(pictures.confusions(model, corners, nails.bed(model, corners)).axes, (3, -1))
    taken = nails.bed(model, corners).taken_for.values
    wrong = np.flatnonzero(taken != np.arange(len(taken)))
    for column in range(3):
        image, other, decoded = (np.asarray(ax.images[0].get_array()) for ax in axes[:, column])
        np.testing.assert_allclose(image, corners.images[wrong[column]] / 255)
        np.testing.assert_allclose(other, corners.images[taken[wrong[column]]] / 255)
        _, z = nails.probe(model, corners)
        logits = z[wrong[column]].numpy().ravel()
        np.testing.assert_allclose(decoded.ravel(), 1 / (1 + np.exp(-logits)), rtol=1e-4)


def test_a_bed_is_kept_in_the_store_for_the_other_pages(tmp_path, monkeypatch):
    monkeypatch.setenv("VAENOTES_STORE", str(tmp_path))
    config = Config(data="digits", size=8, images=64, hidden=4, batch=64, epochs=1)
    first = nails.bed_of(config)
    nails.MEASURED.clear()
    monkeypatch.setattr(nails, "bed", None)  # what is found again is not measured again
    again = nails.bed_of(config)
    assert first.identical(again) and again["node"].dtype.kind == "U"
    monkeypatch.setattr(nails, "_behind", lambda: ["other code"])
    with pytest.raises(TypeError):
        nails.bed_of(config)
