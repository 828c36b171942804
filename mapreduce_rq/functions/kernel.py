"""Functions of a whole span of a range, and what they declare about themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from mapreduce_rq.core.given import check

F = TypeVar("F", bound=Callable[..., Any])


KERNEL = "__mrq_kernel__"
LIBM = "__mrq_libm__"
SAMPLES = "__mrq_samples__"


@overload
def kernel(function: F, /) -> F: ...
@overload
def kernel(*, whole: bool = ..., libm: bool = ..., samples: bool = ...) -> Callable[[F], F]: ...
def kernel(function: Any = None, /, *, whole: bool = False, libm: bool = False, samples: bool = False) -> Any:
    """Declare a function of a span, ``f(lo, hi)``, instead of a function of a single item.

    It returns the values of the items ``lo <= k < hi`` of a range as an array or a list of that length, and the reducer
    folds them. With ``whole=True`` it returns one value that stands for the whole span. You promise then that the
    result does not depend on how spans are cut (which is true for integers, and not for sums of floats).
    ``libm=True`` says that it uses functions such as exp or sin, whose last bit differs between machines: workers whose
    bits differ from the submitter's refuse the job. ``samples=True`` says that its terms are random samples (made with
    ``random_for(term)``, for example): their mean has a confidence interval, and a tolerance may stop the job after any
    of them.
    """
    check(whole=whole, libm=libm, samples=samples)

    def declare(declared: Any) -> Any:
        check(function=declared)
        setattr(declared, KERNEL, "whole" if whole else "values")
        setattr(declared, LIBM, libm)
        setattr(declared, SAMPLES, samples)
        return declared

    return declare if function is None else declare(function)
