"""Sliders show what is measured, one picture per position."""

import numpy as np
import torch
from bs4 import BeautifulSoup
from matplotlib.figure import Figure
from synthetic import CROSSED, make_runs

from vaenotes.config import Config
from vaenotes.data.load import load
from vaenotes.lab import pictures
from vaenotes.model import VAE
from vaenotes.report import sliders


def parsed(film):
    return BeautifulSoup(film.data, "html.parser")


def positions(film):
    return [image["data-position"] for image in parsed(film).find_all("img")]


def test_a_film_is_whole_without_a_server_and_shows_its_start_alone_without_a_script():
    frames = {name: Figure((1, 1)) for name in ("1 <", "2", "3")}
    film = sliders.film(frames, "2", "epoch", "nothing")
    page = parsed(film)
    first, second, third = images = page.find_all("img")
    assert first["alt"] == "epoch 1 <: nothing" and first["data-position"] == "1 <"
    assert first.has_attr("hidden") and third.has_attr("hidden") and not second.has_attr("hidden")
    assert page.find(class_="film-controls").has_attr("hidden")
    assert all(image["src"].startswith("data:image/webp;base64,") for image in images)
    slider = page.find("input")
    assert slider["max"] == "2" and slider["value"] == "1" and slider.find_parent("label")
    assert page.output.text == "2" and not page.div.has_attr("data-loop")
    assert "://" not in film.data and "<script" not in film.data


def test_a_film_says_how_large_its_letters_are_and_whether_it_plays_by_itself():
    drawn = Figure((2, 1))
    drawn.text(0, 0, "large", fontsize=20)
    drawn.text(0, 0, "small", fontsize=7.2)
    page = parsed(sliders.film({"1": drawn, "2": Figure((1, 1))}, "2", "epoch", "", loop=True))
    assert [float(image["data-letters"]) for image in page.find_all("img")] == [0.05, 0]
    assert page.div.has_attr("data-loop")


def test_training_has_a_picture_for_every_epoch_or_as_many_as_a_page_can_hold(monkeypatch):
    nodes = ["shape", "x"]
    short = sliders.training(make_runs([CROSSED], epochs=3), nodes)
    assert positions(short) == ["0", "1", "2", "3"]
    monkeypatch.setattr(sliders, "MOST", 4)
    long = sliders.training(make_runs([CROSSED], epochs=30), nodes)
    assert positions(long) == ["0", "10", "20", "30"]


def test_units_has_a_picture_for_every_scale(monkeypatch):
    assert 1.0 in pictures.SCALES
    monkeypatch.setattr(pictures, "SCALES", np.array([1 / 9, 1.0, 9.0]))
    dataset = load("sprites", images=64, size=16)
    model = VAE(Config(size=16, hidden=8), dataset).initialise(torch.Generator().manual_seed(0))
    assert positions(sliders.units(model, dataset, "x", 2)) == ["× 0.111", "× 1", "× 9"]
