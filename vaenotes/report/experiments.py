"""What is compared: experiments, each some arms and what is measured of them.

    outcome = experiment(settings, "why_the_live_prior_stays")
    outcome.runs["notes"]                      # xarray, over (replica, epoch, node, dim)
    outcome.findings["notes.matching"]         # median over replicas, with its 95% interval
    outcome.findings["matched-notes.kl_used"]  # median difference to the same seed of "notes"

To add one: its arms in ARMS, and a line for each thing to be measured in EXPERIMENTS.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, NamedTuple

import xarray as xr

from vaenotes.data.load import DATASETS
from vaenotes.errors import check_choice
from vaenotes.lab import measures, nails
from vaenotes.lab.summary import Interval
from vaenotes.report.arms import ARMS, arm, run_arms
from vaenotes.report.settings import PROFILES, Settings


@dataclass(frozen=True)
class Experiment:
    """Arms, and what is measured of them.

    `each`: measures taken of every arm. `main`: the arms that are run on other data and with
    another encoder too: those that the ledger's rules need. `changes`: (arm, reference): the
    measures whose difference, seed by seed, is taken, or that are of the pair (measures.PAIRED).
    `beds`: the arms of which all of nails.BEDS is measured too, of their first replicas.
    """

    arms: Sequence[str]
    main: Sequence[str]
    each: Sequence[str]
    changes: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    beds: Sequence[str] = ()


class Outcome(NamedTuple):
    """What came of experiments: runs by arm, and intervals by the name of what was found."""

    runs: dict[str, xr.Dataset]
    findings: dict[str, Interval]

    def titled(self, *arms: str) -> dict[str, xr.Dataset]:
        """The runs of some arms, or of all, by their titles."""
        return {ARMS[name].title: self.runs[name] for name in arms or self.runs}


EXPERIMENTS: dict[str, Experiment] = {
    "the_system": Experiment(
        ["notes", "large", "supervised", "costly", "slow_rate", "large_batch", "kl_at_once",
         "two_pairs", "grey", "standard_targets", "two_inputs", "wide_graph", "uniform_start",
         "repeats_4", "repeats_20", "repeats_50", "few_4", "few_20", "few_50"],
        ["notes", "supervised"],
        ["one_per_node", "dims_used", "agree", "halved", "halved_apart", "ratio_unused",
         "prior_std_used", "prior_std_unused", "posterior_std_used", "posterior_std_unused",
         "at_rest", "reconstruction_held_out", "kl_held_out", "once_used"],
    ),
    "the_loader": Experiment(
        ["cheap", "cheap_repeats_4", "cheap_repeats_20", "cheap_repeats_50", "cheap_few_4",
         "cheap_few_20", "cheap_few_50", "notes", "repeats_4", "repeats_20", "repeats_50",
         "few_4", "few_20", "few_50"],
        ["notes"],
        ["dims_used", "kl_weaker", "halved", "reconstruction"],
    ),
    "posterior_variance": Experiment(
        ["notes", "standard"], ["notes"],
        ["one_per_node", "fallen", "posterior_epoch_used", "posterior_epoch_unused",
         "posterior_variance_used", "posterior_variance_unused", "ratio_used", "ratio_unused",
         "kl_unused", "screened", "nails", "matched_back", "neighbours", "all_fallen",
         "settled_first", "settled_last", "posterior_kept_used", "posterior_kept_unused"],
    ),
    "prior_variance": Experiment(
        ["notes"], ["notes"],
        ["prior_fallen", "prior_epoch_unused", "lag", "behind", "gap", "prior_variance_unused",
         "prior_variance_used", "prior_std_used", "prior_std_unused", "matching", "agree",
         "chance", "second", "halved", "halved_apart", "dims_used", "kl_share_used", "kl_total",
         "prior_gone", "slower", "prior_std_between", "stays", "prior_kept_used",
         "prior_kept_unused", "one_per_node", "ratio_unused", "peak_kl_unused", "once_used"],
    ),
    "means": Experiment(
        ["notes"], ["notes"],
        ["posterior_spread_unused", "prior_mean_unused", "offset_unused", "prior_reach",
         "posterior_reach", "spread_ratio", "within", "between", "kl_used", "kl_unused",
         "kl_share_used", "kl_mean_share", "place_unused", "shrunk", "prior_reach_std",
         "posterior_reach_std", "kl_share_one", "dims_used", "nails"],
    ),
    "always_the_second_dim": Experiment(
        ["notes", "swapped", "per_node", "no_edges", "per_node_no_edges", "cholesky", "ordered"],
        ["notes", "swapped", "per_node", "per_node_no_edges"],
        ["agree", "chance", "first", "second", "one_per_node"],
        changes={("swapped", "notes"): ["mirrored"]},
    ),
    "is_the_dead_dim_used": Experiment(
        ["notes", "supervised"], ["notes", "supervised"],
        ["posterior_variance_used", "posterior_variance_unused", "ratio_used", "ratio_unused",
         "knockout_used", "knockout_unused", "knockout_r2_used", "knockout_r2_unused", "kl_used",
         "kl_unused", "kl_share_used", "offset_unused", "dims_used", "posterior_kept_unused",
         "knockout_weaker", "kl_share_wide"],
    ),
    "why_both_posteriors_shrink": Experiment(
        ["notes", "diagonal", "variance", "standard", "supervised", "supervised_diagonal",
         "supervised_variance", "supervised_standard", "supervised_strong", "standard_targets",
         "frozen_prior", "slow_prior", "slower_prior", "faster_prior", "fast_prior",
         "frozen_posterior"],
        ["notes", "standard"],
        ["posterior_variance_unused", "prior_variance_unused", "ratio_unused", "ratio_used", "gap",
         "balance_used",
         "balance_unused", "matching_all", "dims_used"],
        changes={
            ("standard", "notes"): ["reconstruction", "kl_total", "dims_used"],
            ("supervised_standard", "supervised"): ["reconstruction", "kl_total", "dims_used"],
            ("frozen_prior", "notes"): ["posterior_variance_unused"],
            ("slower_prior", "notes"): ["posterior_variance_unused"],
            ("slow_prior", "notes"): ["gap", "kl_unused", "reconstruction"],
            ("fast_prior", "notes"): ["gap", "kl_unused", "reconstruction"],
        },
    ),
    "why_the_live_prior_stays": Experiment(
        ["notes", "narrow_start", "wide_start", "regauged", "matched"],
        ["notes", "narrow_start", "regauged"],
        ["matching", "prior_std_used", "prior_variance_used", "prior_variance_unused",
         "ratio_used", "kl_used", "prior_std_least", "prior_std_most", "prior_std_between",
         "stays"],
        changes={
            ("narrow_start", "notes"): ["prior_variance_used", "kl_used", "ratio_used"],
            ("wide_start", "notes"): ["prior_variance_used", "kl_used", "ratio_used"],
            ("matched", "notes"): ["kl_total", "reconstruction"],
            ("regauged", "notes"): ["kl_total", "reconstruction", "variance_jump", "ratio_jump",
                                    "kl_jump", "reconstruction_jump"],
        },
    ),
    "why_the_means_differ_in_scale": Experiment(
        ["notes", "constant", "nodes", "other_factors", "supervised", "factors",
         "factors_per_node", "parents"],
        ["notes", "factors_per_node"],
        ["spread_ratio", "seen", "calibration", "within", "between", "kl_formula", "kl_used",
         "kl_total"],
        changes={("factors", "supervised"): ["kl_total", "reconstruction"],
                 ("factors_per_node", "supervised"): ["kl_total", "reconstruction"],
                 ("parents", "notes"): ["kl_total", "reconstruction"],
                 ("other_factors", "notes"): ["kl_total"],
                 ("constant", "notes"): ["kl_total"],
                 ("nodes", "notes"): ["kl_total"]},
    ),
    "does_hidden_talents_carry_over": Experiment(
        ["notes", "standard", "kl_third", "kl_triple", "kl_tenfold", "kl_thirtyfold",
         "noise_wide", "noise_middle", "noise_learned", "dims_1", "dims_3", "dims_4",
         "shuffled", "no_edges", "reversed_edges", "all_edges", "parents", "factors"],
        ["notes", "standard"],
        ["decided", "ratio_used", "ratio_unused", "posterior_variance_unused", "dims_used",
         "shuffle_cost", "kl_total"],
        changes={
            ("shuffled", "notes"): ["kl_total", "reconstruction"],
            ("no_edges", "notes"): ["kl_total", "reconstruction"],
            ("reversed_edges", "notes"): ["kl_total", "reconstruction"],
            ("all_edges", "notes"): ["kl_total", "reconstruction"],
            ("parents", "notes"): ["kl_total", "reconstruction"],
            ("dims_3", "notes"): ["dims_used"],
            ("dims_4", "notes"): ["dims_used"],
        },
    ),
    "bed_of_nails": Experiment(
        ["notes", "standard", "supervised"], ["notes", "standard", "supervised"],
        ["nails", "nearest", "matched_back", "neighbours", "neighbours_pictures", "sampling_cost",
         "kl_total", "tips"],
        changes={("standard", "notes"): ["nearest", "matched_back", "neighbours",
                                         "neighbours_pictures", "sampling_cost"],
                 ("supervised", "notes"): ["neighbours", "neighbours_pictures"]},
        beds=["notes", "supervised"],
    ),
}  # fmt: skip
"""Every experiment, by the name of its page."""


def experiment(settings: Settings, *names: str, main: bool = False, **changes: Any) -> Outcome:
    """Run some of EXPERIMENTS, or take them from the store, and measure them; no name: all. What is
    missing of any is trained together.

    `main`: their main arms alone. `changes`: fields of Config that differ in every arm. Findings
    are named "arm.measure", and "arm-reference.measure" for a difference seed by seed or a measure
    of the pair. Raises ParameterError for an unknown name, also of a measure.
    """
    for name in names:
        check_choice("experiment", name, EXPERIMENTS)
    chosen = [EXPERIMENTS[name] for name in names or EXPERIMENTS]
    for one in chosen:
        for measure in chain(one.each, *one.changes.values()):
            check_choice("measure", measure, {**measures.MEASURES, **measures.PAIRED})
    arms_of = [one.main if main else one.arms for one in chosen]
    every = dict.fromkeys(name for arms in arms_of for name in arms)
    runs = run_arms(settings, list(every), **changes)
    findings: dict[str, Interval] = {}
    known: dict[tuple[str, int], xr.DataArray] = {}

    def values(measure: str, runs: xr.Dataset) -> xr.DataArray:  # experiments ask for the same
        key = measure, id(runs)
        if key not in known:
            known[key] = measures.values_of(measure, runs)
        return known[key]

    for one, arms in zip(chosen, arms_of, strict=True):
        findings |= findings_of(one, {name: runs[name] for name in arms}, values)
        for name in (name for name in one.beds if name in arms):
            found = nails.findings(arm(settings, name, **changes))
            findings |= {f"{name}.{measure}": interval for measure, interval in found.items()}
    return Outcome(runs, findings)


def on_data(settings: Settings, *names: str) -> dict[str, Outcome]:
    """The main arms of all experiments on several data sets, by title: the data's name, or dSprites
    for its file, and the encoder's."""
    encoder = PROFILES[settings.profile].encoder
    return {
        f"{name if name in DATASETS else 'dSprites'}, {encoder}": experiment(
            replace(settings, data=name), main=True
        )
        for name in dict.fromkeys(names)
    }


def findings_of(
    experiment: Experiment,
    arms: Mapping[str, xr.Dataset],
    values: measures.Values = measures.values_of,
) -> dict[str, Interval]:
    """What an experiment measures of some of its arms."""
    findings = {
        f"{name}.{measure}": measures.median_of(measure, found, values)
        for name, found in arms.items()
        for measure in dict.fromkeys([*experiment.each, "at_rest"])
    }
    for (one, other), names in experiment.changes.items():
        if one in arms and other in arms:
            for measure in names:
                both = arms[one], arms[other]
                findings[f"{one}-{other}.{measure}"] = (
                    measures.paired(measure, *both)
                    if measure in measures.PAIRED
                    else measures.difference(measure, *both, values)
                )
    return findings
