import pytest

from vaenotes.errors import ParameterError
from vaenotes.experiments import REGIMES, arm
from vaenotes.settings import PROFILES, Settings


def test_an_arm_is_one_configuration_per_seed():
    settings = Settings(profile="quick", seeds=3, first_seed=10, epochs=7, prior="diagonal")
    configs = arm(settings, kl_weight=0.5)
    assert [config.seed for config in configs] == [10, 11, 12]
    for config in configs:
        assert (config.epochs, config.prior, config.kl_weight) == (7, "diagonal", 0.5)
    assert {config.images for config in configs} == {PROFILES["quick"].images}
    assert len(arm(Settings(profile="book"))) == PROFILES["book"].seeds
    assert arm(Settings(data="mnist5k"))[0].images == 5_000


def test_half_an_arm_is_its_first_half():
    settings = Settings(profile="quick", seeds=5, first_seed=3)
    assert arm(settings, half=True) == arm(settings)[:3]


@pytest.mark.parametrize("regime", REGIMES)
def test_a_regime_sets_weights_and_speed(regime):
    chosen = REGIMES[regime]
    (config,) = arm(Settings(profile="quick", seeds=1), regime)
    assert config.kl_weight == chosen.kl_weight
    assert config.supervision_weight == chosen.supervision_weight
    assert config.learning_rate == PROFILES["quick"].learning_rate * chosen.faster


def test_an_unknown_regime_is_one_clear_line():
    with pytest.raises(ParameterError, match=r"regime must be one of stated weights, .* got 'odd'"):
        arm(Settings(), "odd")
