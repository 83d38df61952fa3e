"""Integer arithmetic in ``decimal`` that is exact or raises."""

from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Inexact, InvalidOperation, Overflow, Rounded


def exact_context() -> Context:
    """Return a context that never rounds; the default one does, silently.

    Use its methods only. The thread's context belongs to the caller, and a ``localcontext()`` in a generator would leak
    into the caller at each yield.
    """
    return Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact, Rounded, Overflow, InvalidOperation])
