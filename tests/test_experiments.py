import pytest

from vaenotes.errors import ParameterError
from vaenotes.graph import parent_matrix
from vaenotes.lab.measures import MEASURES, PAIRED
from vaenotes.lab.runs import load_data
from vaenotes.report.experiments import ARMS, EXPERIMENTS, all_experiments, arm, experiment
from vaenotes.report.settings import PROFILES, Settings

TINY = Settings(profile="quick", seeds=2, epochs=1)


def test_an_arm_is_one_configuration_per_seed():
    settings = Settings(profile="quick", seeds=3, first_seed=10, epochs=7, prior="diagonal")
    configs = arm(settings, kl_weight=0.5)
    assert [config.seed for config in configs] == [10, 11, 12]
    for config in configs:
        assert (config.epochs, config.prior, config.kl_weight) == (7, "diagonal", 0.5)
    assert {config.images for config in configs} == {PROFILES["quick"].images}


def test_arms_that_are_counted_have_more_seeds():
    book = PROFILES["book"]
    assert len(arm(Settings())) == len(arm(Settings(), "per_node")) == book.many
    assert len(arm(Settings(), "matched")) == book.seeds
    assert arm(Settings(), "matched") == arm(Settings(prior="matched"))[: book.seeds]


def test_smaller_data_are_trained_for_as_many_steps():
    sprites = arm(Settings())[0]
    for data, images in (("mnist5k", 5_000), ("digits", 1_797)):
        digits = arm(Settings(data=data))[0]
        assert digits.images == images
        asked, got = (c.epochs * (c.images // c.batch) for c in (sprites, digits))
        assert got == pytest.approx(asked, rel=0.03)
        assert arm(Settings(data=data, epochs=3))[0].epochs == 3
        assert arm(Settings(data=data, profile="quick"))[0].images == PROFILES["quick"].images
        assert arm(Settings(data=data, profile="notes"))[0].images == images


def test_other_changes_reach_every_arm():
    """After those of the arm itself, which may have been worked out from the settings' own."""
    quick, other = PROFILES["quick"].learning_rate, {"encoder": "cnn", "batch": 32}
    for name, rate in (("notes", quick), ("slow_rate", quick / 4), ("kl_triple", quick)):
        usual, changed = arm(TINY, name)[0], arm(TINY, name, **other)[0]
        assert (usual.encoder, usual.learning_rate) == ("mlp", rate)
        assert {field: getattr(changed, field) for field in other} == other
        assert changed.kl_weight == usual.kl_weight


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_differs_from_the_notes_system_in_what_it_states(name):
    notes, other = arm(TINY)[0], arm(TINY, name)[0]
    stated = ARMS[name].changes
    stated = dict(stated(notes) if callable(stated) else stated)
    for field, value in stated.items():
        assert getattr(other, field) == value
    changed = {f for f in vars(notes) if getattr(notes, f) != getattr(other, f)}
    edges = {"edges"} if ARMS[name].edges else set()
    assert edges <= changed <= {*stated, *edges}
    assert {f for f, value in stated.items() if getattr(notes, f) != value} | edges == changed
    assert (name == "notes") == (not changed)


def test_no_two_arms_are_the_same_and_each_has_a_title_of_its_own():
    book = Settings(seeds=1)
    assert len({arm(book, name)[0] for name in ARMS}) == len(ARMS)
    assert len({one.title for one in ARMS.values()}) == len(ARMS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("slow_rate", {"learning_rate": 2e-3}),
        ("large_batch", {"batch": 256, "epoch_steps": 100}),
        ("repeats_4", {"images": 1600, "repeats": 4, "epoch_steps": 100}),
        ("repeats_20", {"images": 320, "repeats": 20, "epoch_steps": 100}),
        ("repeats_50", {"images": 128, "repeats": 50, "epoch_steps": 100}),
        ("few_4", {"images": 1600, "epoch_steps": 100}),
        ("few_20", {"images": 320, "epoch_steps": 100}),
        ("few_50", {"images": 128, "epoch_steps": 100}),
    ],
)
def test_what_an_arm_works_out_from_the_settings(name, expected):
    """Of 6400 images in batches of 64: 100 steps an epoch, whatever the share of the images."""
    notes, other = vars(arm(Settings())[0]), vars(arm(Settings(), name)[0])
    assert (notes["images"], notes["batch"], notes["epoch_steps"]) == (6400, 64, None)
    assert {f: value for f, value in other.items() if value != notes[f]} == expected


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", [n for n in ARMS if n.startswith(("repeats", "few"))])
def test_a_share_of_the_images_is_shown_whole_in_as_many_steps(name, profile):
    """However few they are: each batch as often as it is to be repeated, or a whole pass."""
    notes, other = (arm(Settings(profile=profile), n)[0] for n in ("notes", name))
    assert other.epoch_steps == notes.images // notes.batch
    assert other.images < notes.images and other.images % other.batch == 0
    assert other.epoch_steps >= other.repeats * (other.images // other.batch)


@pytest.mark.parametrize(("name", "other"), [("two_pairs", "paired"), ("grey", "grey")])
def test_other_sprites_are_taken_where_it_is_sprites_that_are_learned(name, other):
    assert arm(Settings(), name)[0].data == f"{other}_sprites"
    digits = Settings(data="digits")
    assert arm(digits, name) == arm(digits)[: PROFILES["book"].seeds]


def test_graphs_are_made_from_the_data_sets_own():
    nodes = ["shape", "scale", "orientation", "x", "y"]
    own = parent_matrix(nodes, (("orientation", "x"),))
    assert (parent_matrix(nodes, load_data(arm(TINY)[0]).edges) == own).all()
    assert arm(TINY, "no_edges")[0].edges == ()
    assert (parent_matrix(nodes, arm(TINY, "reversed_edges")[0].edges) == own.T).all()
    everything = parent_matrix(nodes, arm(TINY, "all_edges")[0].edges)
    assert everything.sum() == 10 and (everything * own == own).all()


def test_an_unknown_name_is_one_clear_line():
    with pytest.raises(ParameterError, match=r"arm must be one of notes, large, .* got 'odd'"):
        arm(TINY, "odd")
    with pytest.raises(ParameterError, match=r"experiment must be one of .* got 'odd'"):
        experiment(TINY, "odd")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_declaration_names_arms_and_measures_that_exist(name):
    one = EXPERIMENTS[name]
    assert set(one.main) <= set(one.arms) <= set(ARMS)
    assert set(one.each) <= set(MEASURES)
    for table, measures in ((one.changes, MEASURES), (one.twins, PAIRED)):
        for pair, names in table.items():
            assert set(pair) <= set(one.arms) and set(names) <= set(measures)


def test_every_arm_and_measure_is_used():
    """No option that nothing uses."""
    assert {name for one in EXPERIMENTS.values() for name in one.arms} == set(ARMS)
    used = {m for one in EXPERIMENTS.values() for m in one.each}
    used |= {m for one in EXPERIMENTS.values() for names in one.changes.values() for m in names}
    shown_in_pages = {"r2"}
    assert set(MEASURES) - shown_in_pages == used
    assert {m for one in EXPERIMENTS.values() for n in one.twins.values() for m in n} == set(PAIRED)


@pytest.mark.slow
def test_an_experiments_findings_are_among_all_findings(tmp_path, monkeypatch):
    monkeypatch.setenv("VAENOTES_STORE", str(tmp_path))
    settings = Settings(profile="quick", seeds=1, epochs=1)
    everything = all_experiments(settings, main=True).findings
    outcome = experiment(settings, "bed_of_nails", main=True)
    assert outcome.findings.items() <= everything.items()
    assert set(outcome.runs) == {"notes", "standard", "supervised"}
    assert "standard-notes.nearest" in outcome.findings
    assert all(interval.replicas <= 1 for interval in everything.values())
