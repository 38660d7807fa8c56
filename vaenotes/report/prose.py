"""Numbers of the prose that are no findings: every function gives some by name, for Page.glue."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from vaenotes.config import Config
from vaenotes.data.load import ALL_IMAGES
from vaenotes.lab.measures import MEASURES, SHARE, median_of
from vaenotes.lab.summary import ALIVE_RATIO, alive, counts, survivors
from vaenotes.model import VAE
from vaenotes.report import laws, results
from vaenotes.report.arms import SUPERVISED
from vaenotes.report.claims import (
    NOT_RUN,
    OPEN,
    OUTCOMES,
    RIGHT,
    VERDICTS,
    WRONG,
    Findings,
    agreement,
    claims,
    first_verdict,
    in_range,
    judged,
    otherwise,
    predictions,
    put_to_the_test,
    verdict,
)
from vaenotes.report.claims import verdicts as verdicts_of
from vaenotes.report.page import told
from vaenotes.report.system import PARTS

QUOTED = {
    "cost.replicas": ("book", "replicas trained"),
    "cost.cold": ("book", "from an empty store"),
    "cost.cores": ("cores", "two over one"),
    "cost.same": ("rebuild", "the book with nothing changed"),
    "cost.word": ("rebuild", "the book with one word changed"),
    "cost.chapter": ("rebuild", "a chapter by papermill"),
    "cost.loop": ("training", "bfloat16 over DataLoader"),
    "cost.pythae": ("training", "bfloat16 over pythae"),
    "cost.share": ("training", "bfloat16, of its peak"),
    "cost.half": ("training", "bfloat16 over float32"),
}
"""The costs that the prose quotes: benchmark, and how the row's name starts."""


def notes_figures() -> dict[str, float]:
    """Of the notes' own figures. theirs_first: the epoch from which the average std of the
    posterior stays within a tenth of its fall (from epoch 2 on) of where it ends, in the dim given
    up; theirs_second: the same of the other. theirs_low, theirs_high: 7 and 93 % of the other dim's
    prior std at the end. theirs_mean: the prior mean of the dim given up, at the end. Posterior
    over prior std (average over the middle of the band), median over epochs 5 to 15:
    theirs_ratio_first, theirs_ratio_second; of the dim given up in epoch 1: theirs_ratio_early.
    Of the other dim, where each curve ends, half the range of the means, and the same over its
    prior std: theirs_posterior_reach and theirs_posterior_reach_std, and so of the prior.
    theirs_place: the size of theirs_mean over that std."""
    stds, means = results.notes_bands("std"), results.notes_bands("mean")
    averages = results.digitised().query("figure == 'scalars of 22 July'").set_index("epoch")
    settled, ratios = [], []
    for place in (0, 1):
        std = averages["max"][averages.dim == place]
        fall = std[std.index >= 2]
        near = fall <= fall.iloc[-1] + (fall.max() - fall.iloc[-1]) / 10
        settled.append(int(near[::-1].cummin()[::-1].idxmax()))
        band = stds["prior_std_quantiles"].isel(place=place).sel(quantile=[0.07, 0.93])
        ratios.append((std / band.mean("quantile").to_series()).dropna())
    last = stds["prior_std_quantiles"].isel(place=1, epoch=-1)
    facts, wide = results.facts_of(stds, means), float(last.sel(quantile=[0.07, 0.93]).mean())
    reached = {}
    for side in ("posterior", "prior"):
        end = means[f"{side}_quantiles"].isel(place=1).dropna("epoch").isel(epoch=-1)
        reached[side] = float(end.sel(quantile=1.0) - end.sel(quantile=0.0)) / 2
    constant = facts["prior mean, dim given up, at the end"]
    return {
        "theirs_first": settled[0],
        "theirs_second": settled[1],
        "theirs_low": float(last.sel(quantile=0.07)),
        "theirs_high": float(last.sel(quantile=0.93)),
        "theirs_mean": constant,
        "theirs_place": abs(constant) / wide,
        **{f"theirs_{side}_reach": reach for side, reach in reached.items()},
        **{f"theirs_{side}_reach_std": reach / wide for side, reach in reached.items()},
        "theirs_ratio_early": ratios[0].loc[1],
        "theirs_ratio_first": ratios[0].loc[5:15].median(),
        "theirs_ratio_second": ratios[1].loc[5:15].median(),
    }


def full_size() -> dict[str, Any]:
    """Of the runs at the notes' own sizes, as own.NAME. A replica that was trained on counts once,
    as it ended. Of those at the dearer price every measure, a share in words as NAME_told; dear_n,
    dear_gone (that gave dims up), dear_epochs and gone_in (the notes' epochs in which they did). Of
    all others rest_n and rest_gone."""
    ends = results.ends()
    ((dear,), *_) = results.COLUMNS.values()
    measured = {n: median_of(n, ends[dear]) for n in MEASURES if not n.endswith("held_out")}
    found: dict[str, Any] = {name: interval.value for name, interval in measured.items()}
    shares = (name for name in measured if MEASURES[name].unit == SHARE)
    found |= {f"{name}_told": told(measured[name]) for name in shares}
    lengths = [runs.sizes["epoch"] - 1 for runs in ends.values()]
    found |= {"shortest": min(lengths), "longest": max(lengths)}
    found["replicas"] = sum(runs.sizes["replica"] for runs in ends.values())
    gone = {group: results.given_up(runs) for group, runs in ends.items()}
    found |= {"dear_n": ends[dear].sizes["replica"], "dear_gone": len(gone[dear])}
    found |= {"dear_epochs": ends[dear].sizes["epoch"] - 1, "dear_weight": ends[dear].kl_weight[0]}
    found["gone_in"] = listed(gone[dear])
    found["rest_n"] = found["replicas"] - found["dear_n"]
    found["rest_gone"] = sum(map(len, gone.values())) - found["dear_gone"]
    fell = {group: results.losing(runs) for group, runs in ends.items() if group != dear}
    both = [group for group in fell if group.startswith("unsupervised_repeated")]
    for kind, chosen in (("both", both), ("other", [group for group in fell if group not in both])):
        found[f"losing_{kind}"] = sum(fell[group][0] for group in chosen)
        found[f"of_{kind}"] = sum(fell[group][1] for group in chosen)
    for title in ("off", "on"):
        rows = results.tails().filter(like=f"term {title}", axis="index")
        found[f"{title}_least"] = float(rows["least"].min())
        found[f"{title}_most"] = float(rows["most"].max())
    found["tail_notes"] = float(results.tails().loc["the notes", "least"])
    for title, group, images in (
        ("repeated", "supervised_repeated", "held_out"),
        ("fresh", "supervised_fresh", "held_out"),
        ("seen", "supervised_repeated", "seen"),
    ):
        nats = results.full_size(group, images).reconstruction_nats.isel(epoch=-1)
        found[f"{title}_nats"] = float(nats.median())
    rows = predictions("full_size")
    now, then = (Counter(map(of, rows)) for of in (results.outcome, results.outcome_at_first))
    found |= {kind: now[kind] for kind in OUTCOMES}
    found |= {"first_right": then[RIGHT], "first_wrong": then[WRONG]}
    found["unreached"] = now[results.NOT_REACHED]
    return {f"own.{name}": value for name, value in found.items()}


def listed(numbers: Sequence[int]) -> str:
    """2, 3 and 7."""
    *most, last = map(str, numbers)
    return f"{', '.join(most)} and {last}" if most else last


def at_full_size() -> dict[str, str | int]:
    """The verdict on every claim by the runs at the notes' own sizes, at the dearer price as
    own.verdict.CLAIM, at the other as cheaper.verdict.CLAIM; and how many there are of each, as
    own.claims_VERDICT and so on."""
    rows = verdicts_of(results.full_size_findings())
    counted: dict[str, str | int] = {}
    for place, name in enumerate(("own", "cheaper")):
        each = {claim: list(row.values())[place] for claim, row in rows.items()}
        found = Counter(each.values())
        counted |= {f"{name}.verdict.{claim}": of for claim, of in each.items()}
        kinds = (*VERDICTS, OPEN, NOT_RUN)
        counted |= {f"{name}.claims_{kind.replace(' ', '_')}": found[kind] for kind in kinds}
    return counted


def system(config: Config, model: VAE) -> dict[str, Any]:
    """The fields of a configuration by their names, and: steps of an epoch, the model's parameters,
    and the weight of the supervised term where it is on."""
    return vars(config) | {
        "steps": config.images // config.batch,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "weight_if_on": SUPERVISED["supervision_weight"],
    }


def loader(runs: Mapping[str, xr.Dataset]) -> dict[str, int]:
    """At the notes' price per pixel, of all replicas with batches repeated and of those with as few
    images shuffled: how many there are (_n), and how many gave a dim up (_gone)."""
    found = {}
    for kind, name in (("repeated", "cheap_repeats"), ("shuffled", "cheap_few")):
        arms = [runs[f"{name}_{times}"] for times in (4, 20, 50)]
        found[f"{kind}_n"] = sum(arm.sizes["replica"] for arm in arms)
        found[f"{kind}_gone"] = sum(counts(arm)["one per node"] for arm in arms)
    return found


def full_covariance(runs: xr.Dataset, spectra: np.ndarray) -> dict[str, float]:
    """Of the replicas under a full covariance that did not diverge, with the square roots of
    known.relative_spectra. several: in how many, as a share, a node has two dims in use
    one half. Of code_size dims, medians: own_used by themselves, directions by the spectra.
    """
    found = survivors(runs)
    spectra = spectra[np.isfinite(spectra).all(1)]
    return {
        "several": float((alive(found).sum("dim").max("node") > 1).mean()),
        "code_size": spectra.shape[1],
        "own_used": float(alive(found).sum(("node", "dim")).median()),
        "directions": float(np.median((spectra < ALIVE_RATIO).sum(1))),
    }


def regauged(runs: xr.Dataset, twins: xr.Dataset) -> dict[str, float]:
    """regauged.factor: by how much the prior's variance in dims in use still differs at the end
    from that of the twin whose units stayed, as a factor, median."""
    last, other = (one.swap_dims(replica="seed").isel(epoch=-1) for one in (runs, twins))
    apart = abs(np.log(last.prior_variance / other.prior_variance))
    return {"regauged.factor": float(np.exp(apart.where(alive(last)).median()))}


def paces() -> dict[str, str]:
    """Of the notes' system and of the small one: steps of an epoch and learning rate, as
    theirs_steps, theirs_rate, ours_steps and ours_rate."""
    part = next(part for part in PARTS if "rate" in part.what)
    found = {}
    for whose, said in (("theirs", part.notes), ("ours", part.here)):
        found[f"{whose}_steps"], found[f"{whose}_rate"] = said.split(" at ")
    return found


def verdicts(findings: Findings) -> dict[str, int]:
    """How many claims there are, how many there are of each verdict, and how many have another
    verdict by the rule that they had first."""
    found = Counter(verdict(claim, findings) for claim in claims())
    kinds = {name.replace(" ", "_"): found[name] for name in (*VERDICTS, OPEN)}
    changed = [claim for claim in claims() if claim.first_rules]
    moved = [c for c in changed if verdict(c, findings) != first_verdict(c, findings)]
    return {"claims": found.total(), "moved": len(moved), **kinds}


def predicted(findings: Findings) -> dict[str, int]:
    """How many numbers were predicted; how many came out right, wrong and undecided, and how many
    medians lie within their range; and the same of those that no trial run had hinted at."""
    every = predictions()
    found: dict[str, int] = {}
    for name, rows in (("predicted", every), ("unseen", [row for row in every if not row.seen])):
        kinds = Counter(judged(row, findings[row.finding]) for row in rows)
        found |= {name: len(rows)} | {f"{name}_{kind}": kinds[kind] for kind in OUTCOMES}
        found[f"{name}_in_range"] = sum(in_range(row, findings[row.finding]) for row in rows)
    return found


def generality(found: Mapping[str, Mapping[str, str]]) -> dict[str, int | str]:
    """Of claims.verdicts of several runs, how those of each compare with those of the first, by
    what its title starts with (full_size.NAME): in how many claims both are decided; in how many of
    these the verdict is the same, in how many it differs in being up to units or not; how many are
    contrary, and which. How many verdicts were expected, and how many came out so."""
    first, *others = next(iter(found.values()))
    told: dict[str, int | str] = {}
    for title in others:
        every = {claim: agreement(row[title], row[first]) for claim, row in found.items()}
        decided = {c: kind for c, kind in every.items() if OPEN not in (kind, found[c][title])}
        kinds = Counter(kind for kind in decided.values() if kind != NOT_RUN)
        contrary = [claim for claim, kind in decided.items() if kind == "contrary"]
        name = title.split(",")[0].replace(" ", "_")
        told |= {
            f"{name}.decided": kinds.total(),
            f"{name}.same": kinds["same"],
            f"{name}.other_n": kinds["other"],
            f"{name}.contrary_n": kinds["contrary"],
            f"{name}.contrary": ", ".join(contrary) or "none",
        }
    tested = len(put_to_the_test(found))
    return told | {
        "n_expected": tested,
        "n_as_expected": tested - len(otherwise(found)),
        "digits_images": ALL_IMAGES["digits"],
    }


def laws_judged() -> dict[str, int]:
    """Of the numbers predicted of price, start, deletion and choice, as law.NAME: how many were
    judged, and how many were not_run; of those seen before and of those unseen, how many there are
    and how many came out right, wrong and undecided."""
    rows = laws.every()
    run = [row for row in rows if row.verdict != NOT_RUN]
    found = {"judged": len(run), "not_run": len(rows) - len(run)}
    for name, own in (("seen", True), ("unseen", False)):
        kinds = Counter(row.verdict for row in run if row.prediction.seen == own)
        found |= {name: kinds.total()} | {f"{name}_{kind}": kinds[kind] for kind in OUTCOMES}
    return {f"law.{name}": value for name, value in found.items()}


def costs() -> dict[str, float]:
    """The medians of QUOTED."""
    return {
        name: next(r["median"] for r in results.cost(kind)["rows"] if r["what"].startswith(what))
        for name, (kind, what) in QUOTED.items()
    }
