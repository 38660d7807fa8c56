"""What sets the posterior's width: what the supervised term asks for, and the prior's dose."""

import numpy as np
import pytest

from vaenotes.lab.summary import Interval
from vaenotes.report import widths
from vaenotes.report.arms import ARMS, arm
from vaenotes.report.claims import predictions
from vaenotes.report.settings import Settings


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAENOTES_STORE", str(tmp_path_factory.mktemp("store")))
        yield widths.all_widths(Settings(profile="quick", seeds=2, epochs=2))


def test_the_prediction_balances_the_pushes_and_its_bound_neglects_the_decoders(found):
    for name, one in found.items():
        config = arm(Settings(profile="quick"), name)[0]
        assert one.measured.dims == ("replica", "node", "dim") and (one.measured > 0).all()
        share = (one.predicted / one.bound) ** 2
        np.testing.assert_allclose(share, 1 - one.push, rtol=1e-4, atol=1e-6)
        ceiling = (config.kl_weight / config.supervision_weight / 2) ** 0.5
        assert (one.noise * one.bound / one.measured < ceiling).all()


def test_every_expected_number_is_found(found):
    made = widths.findings(found)
    assert {row.finding for row in predictions("widths")} <= set(made)
    assert {name.rpartition(".")[2] for name in made} == set(widths.MEANINGS)


def test_the_figure_of_the_dose_has_every_rate():
    made_up = {
        f"{name}.{side}_variance_unused": Interval(1.0, 0.5, 2.0, 8)
        for name in widths.RATES.values()
        for side in ("posterior", "prior")
    }
    (ax,) = widths.dose(made_up).axes
    assert len(ax.get_xticks()) == len(widths.RATES)
    for rate, name in widths.RATES.items():
        assert dict(ARMS[name].changes).get("prior_rate", 1.0) == rate
