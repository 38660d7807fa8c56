"""Tensors and arrays as they are given, checked."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vaenotes.errors import ParameterError, check

LARGEST_NUMBER, LARGEST_LOGVAR = 1e60, 300.0  # within these no KL overflows


def array_of(name: str, value: Any) -> Tensor:
    """Any tensor or array of real numbers as a tensor on the CPU, floats of 32 and 64 bits as they
    are."""
    if isinstance(value, list | tuple) and getattr(next(iter(value), None), "ndim", 0) > 1:
        kind = f"a {type(value).__name__} of {len(value)}"
        raise ParameterError(
            f"{name} must be one array, got {kind}: torch.cat them, or Diagnosis.update each"
        )
    if lost := _lost(value):
        way = (
            "weights serve instead"
            if lost == "masks"
            else "pandas.DataFrame or xarray.concat joins them"
        )
        kind = f"a {type(value).__name__} with {lost}"
        raise ParameterError(f"{name} must be one array, got {kind}: {way}")
    try:
        if isinstance(value, Tensor):
            fits = not (value.is_complex() or value.is_nested)
            tensor = value.detach().to_dense().cpu() if fits else value
            if fits and tensor.dtype not in (torch.float32, torch.float64):
                tensor = tensor.to(torch.float32 if tensor.itemsize < 4 else torch.float64)
        else:
            array = np.asarray(value)
            if array.dtype == object and isinstance(value, pd.DataFrame | pd.Series):
                array = _of_objects(value)
            short = "float" in array.dtype.name and array.dtype.itemsize <= 4  # of ml_dtypes too
            fits = short or array.dtype.kind in "biuf"
            number = np.float32 if short else np.float64
            tensor = (
                torch.from_numpy(np.require(array, number, ["C", "W"])) if fits else torch.empty(0)
            )
    except (TypeError, ValueError, RuntimeError):
        fits = False
    got = getattr(value, "dtype", None)
    got = value if got is None else str(got).removeprefix("torch.")
    check(fits, f"{name} must be a tensor or array of real numbers", got)
    return tensor


def _of_objects(frame: pd.DataFrame | pd.Series) -> np.ndarray:
    """Numbers that numpy does not know for such, as pandas' own that may be missing (then nan)."""
    own = frame.to_frame() if isinstance(frame, pd.Series) else frame
    real = all(kind.kind in "biuf" for kind in own.infer_objects().dtypes)
    return frame.to_numpy(float, na_value=np.nan) if real else np.asarray(frame)


def _lost(value: Any) -> str:
    """What would be lost of it: "masks", of torch's own kind or in a list, or "names" in one."""
    if isinstance(value, list | tuple):
        for part in value:
            if isinstance(part, np.ma.MaskedArray):
                return "masks"
            dims = getattr(part, "dims", None)  # of xarray, none of a single number
            if isinstance(part, pd.Series | pd.DataFrame) or (isinstance(dims, tuple) and dims):
                return "names"
            if lost := _lost(part):
                return lost
    masked = isinstance(value, Tensor) and torch.masked.is_masked_tensor(value)
    return "masks" if masked else ""


def check_logvar(name: str, array: Tensor, kind: str) -> None:
    if kind != "logvar":
        low = array.amin()
        if not low > 0:
            check_each(f"{name} must be above 0", array > 0, array)
    low, high = array.aminmax()
    least, most = (as_logvar(value.double(), kind) for value in (low, high))
    if not -LARGEST_LOGVAR <= least <= most <= LARGEST_LOGVAR:
        logvar = as_logvar(array.double(), kind)
        rule = f"{name} must be of log-variances in +-{LARGEST_LOGVAR:g}"
        check_each(rule, logvar.abs() <= LARGEST_LOGVAR, logvar)


def as_logvar(array: Tensor, kind: str) -> Tensor:
    if kind == "logvar":
        return array
    return array.log() if kind == "variance" else 2 * array.log()


def lower(name: str, array: Tensor) -> Tensor:
    check_each(f"{name} must be lower triangular", array.triu(1) == 0, array)
    diagonal = array.diagonal(dim1=-2, dim2=-1)
    check_each(f"{name} must have a diagonal above 0", diagonal > 0, diagonal)
    return array


def cholesky(name: str, covariance: Tensor) -> Tensor:
    largest = covariance.abs().amax((-2, -1), keepdim=True)
    symmetric = (covariance - covariance.mT).abs() <= 1e-4 * largest
    check_each(f"{name} must be symmetric", symmetric, covariance)
    lower, failed = torch.linalg.cholesky_ex(covariance)
    if failed.any():
        least = torch.linalg.eigvalsh(covariance).amin(-1)
        check_each(f"{name} must have eigenvalues well above 0", failed == 0, least)
    return lower


def sane(name: str, tensor: Tensor) -> Tensor:
    low, high = (float(end) for end in tensor.aminmax())  # nan if any is
    if not -LARGEST_NUMBER <= low <= high <= LARGEST_NUMBER:
        sane = tensor.double().abs() <= LARGEST_NUMBER  # in float32 that is infinite
        check_each(f"{name} must be finite, at most {LARGEST_NUMBER:g} in size", sane, tensor)
    return tensor


def check_each(rule: str, fits: Tensor, values: Tensor) -> None:
    """Raise ParameterError with the first entry that does not fit, and how many more there are."""
    if not fits.all():
        places = (~fits).nonzero().tolist()
        first = tuple(places[0])
        more = f" and {len(places) - 1} more such" if len(places) > 1 else ""
        raise ParameterError(f"{rule}, got {values[first].item():g} at {first}{more}")
