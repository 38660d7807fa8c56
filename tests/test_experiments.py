"""The arms and experiments as they are declared, and that findings are what their names say."""

import pytest

from vaenotes.errors import ParameterError
from vaenotes.graph import parent_matrix
from vaenotes.lab.measures import MEASURES, PAIRED, difference, median_of, paired
from vaenotes.lab.nails import BEDS
from vaenotes.lab.runs import load_data
from vaenotes.report.arms import ARMS, Arm, arm
from vaenotes.report.experiments import EXPERIMENTS, Experiment, experiment
from vaenotes.report.settings import PROFILES, Settings

BOOK, TINY = Settings(), Settings(profile="quick", seeds=2, epochs=1)


def test_an_arm_is_one_configuration_per_seed_and_more_where_choices_are_counted():
    settings = Settings(profile="quick", seeds=3, first_seed=10, epochs=7, prior="diagonal")
    for seed, config in enumerate(arm(settings, kl_weight=0.5), 10):
        assert (config.seed, config.images) == (seed, PROFILES["quick"].images)
        assert (config.epochs, config.prior, config.kl_weight) == (7, "diagonal", 0.5)
    assert len(arm(BOOK)) == len(arm(BOOK, "per_node")) == PROFILES["book"].many
    assert arm(BOOK, "matched") == arm(Settings(prior="matched"))[: PROFILES["book"].seeds]


@pytest.mark.attack("line")
def test_what_an_arm_or_an_experiment_cannot_heed_is_refused_before_anything_is_trained(
    monkeypatch,
):
    with pytest.raises(ParameterError, match=r"^seeds are Settings\(seeds=, first_seed=\), got "):
        arm(TINY, seed=7)
    monkeypatch.setitem(ARMS, "seventh", Arm("seed 7", {"seed": 7}))
    with pytest.raises(ParameterError, match=r"^seeds are Settings\(seeds=, first_seed=\), got "):
        arm(TINY, "seventh")
    with pytest.raises(ParameterError, match=r"^changes must be .*'kl_wieght'; did you mean 'kl_w"):
        arm(TINY, kl_wieght=1.0)
    edges = (("shape", "scale"),)
    assert arm(TINY, "no_edges", edges=edges)[0].edges == edges
    for each, changes in ((["kl_totl"], {}), ([], {("notes", "costly"): ["kl_totl"]})):
        mine = Experiment(["notes", "costly"], ["notes"], each, changes)
        monkeypatch.setitem(EXPERIMENTS, "mine", mine)
        with pytest.raises(ParameterError, match="did you mean 'kl_total'"):
            experiment(TINY, "mine")


@pytest.mark.parametrize(("data", "images"), [("mnist5k", 4_000), ("digits", 1_437)])
def test_smaller_data_are_trained_for_as_many_steps_and_are_no_other_sprites(data, images):
    sprites, other = arm(BOOK)[0], arm(Settings(data=data))[0]
    asked, got = (c.epochs * (c.images // c.batch) for c in (sprites, other))
    assert other.images == images and got == pytest.approx(asked, rel=0.03)
    assert arm(Settings(data=data, epochs=3))[0].epochs == 3
    assert arm(BOOK, "grey")[0].data == "grey_sprites"
    assert arm(Settings(data=data), "grey")[0] == other


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_differs_from_the_notes_system_in_what_it_states_and_takes_other_changes(name):
    notes, other = vars(arm(TINY)[0]), vars(arm(TINY, name)[0])
    stated = ARMS[name].changes
    stated = dict(stated(arm(TINY)[0]) if callable(stated) else stated)
    changed = {field for field in notes if notes[field] != other[field]}
    edges = {"edges"} if ARMS[name].edges else set()
    assert changed == {f for f, value in stated.items() if notes[f] != value} | edges
    assert all(other[field] == value for field, value in stated.items())
    again = vars(arm(TINY, name, encoder="cnn", epochs=3)[0])
    assert again == other | {"encoder": "cnn", "epochs": 3}


def test_no_two_arms_are_the_same_or_have_the_same_title():
    assert len({arm(BOOK, name)[0] for name in ARMS}) == len(ARMS)
    assert len({one.title for one in ARMS.values()}) == len(ARMS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("slow_rate", {"learning_rate": 2e-3}),
        ("large_batch", {"batch": 256, "epoch_steps": 100}),
        ("repeats_20", {"images": 320, "repeats": 20, "epoch_steps": 100}),
        ("few_50", {"images": 128, "epoch_steps": 100}),
    ],
)
def test_what_an_arm_works_out_from_the_settings(name, expected):
    """Of 6400 images in batches of 64: 100 steps an epoch, whatever the share of the images."""
    notes, other = vars(arm(BOOK)[0]), vars(arm(BOOK, name)[0])
    assert {f: value for f, value in other.items() if value != notes[f]} == expected


@pytest.mark.parametrize("profile", PROFILES)
def test_a_share_of_the_images_is_shown_whole_in_as_many_steps(profile):
    """However few they are: each batch as often as it is to be repeated, or a whole pass."""
    notes = arm(Settings(profile=profile))[0]
    for name in (name for name in ARMS if name.startswith(("repeats", "few"))):
        other = arm(Settings(profile=profile), name)[0]
        assert other.epoch_steps == notes.images // notes.batch
        assert other.images < notes.images and other.images % other.batch == 0
        assert other.epoch_steps >= other.repeats * (other.images // other.batch)


def test_graphs_are_made_from_the_data_sets_own():
    nodes = ["shape", "scale", "orientation", "x", "y"]
    own, none, reverse, every = (
        parent_matrix(nodes, edges)
        for edges in (
            load_data(arm(TINY)[0]).edges,
            *(arm(TINY, f"{name}_edges")[0].edges for name in ("no", "reversed", "all")),
        )
    )
    assert (own.sum(), none.sum(), every.sum()) == (1, 0, 10)
    assert (reverse == own.T).all() and (every * own == own).all()


def test_what_cannot_be_run_is_one_clear_line():
    with pytest.raises(ParameterError, match=r"arm must be one of notes, large, .* got 'odd'"):
        arm(TINY, "odd")
    with pytest.raises(ParameterError, match=r"experiment must be one of .* got 'odd'"):
        experiment(TINY, "odd")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_declaration_names_arms_and_measures_that_exist(name):
    one = EXPERIMENTS[name]
    assert set(one.main) <= set(one.arms) <= set(ARMS) and set(one.each) <= set(MEASURES)
    for pair, names in one.changes.items():
        assert set(pair) <= set(one.arms) and set(names) <= MEASURES.keys() | PAIRED.keys()
    assert set(one.beds) <= set(one.arms)
    assert len(MEASURES | PAIRED | BEDS) == len(MEASURES) + len(PAIRED) + len(BEDS)


def test_every_arm_is_used():
    assert {name for one in EXPERIMENTS.values() for name in one.arms} == set(ARMS)


@pytest.mark.slow
def test_findings_are_named_by_arm_and_measure_and_the_same_alone_or_together(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("VAENOTES_STORE", str(tmp_path))
    both = experiment(TINY, "why_the_live_prior_stays", "bed_of_nails", main=True)
    alone = experiment(TINY, "bed_of_nails", main=True)
    assert alone.findings.items() <= both.findings.items()
    assert set(alone.runs) == {"notes", "standard", "supervised"}
    notes, regauged, standard = (both.runs[n] for n in ("notes", "regauged", "standard"))
    for name, expected in {
        "standard.nearest": median_of("nearest", standard),
        "standard-notes.nearest": difference("nearest", standard, notes),
        "regauged-notes.kl_jump": paired("kl_jump", regauged, notes),
    }.items():
        assert both.findings[name] == expected, name
    assert "matched.matching" not in both.findings  # no main arm
    changed = experiment(TINY, "bed_of_nails", main=True, kl_weight=0.3)
    assert all((runs.kl_weight == 0.3).all() for runs in changed.runs.values())
