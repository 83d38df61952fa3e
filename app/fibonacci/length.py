"""How many digits terms have, exactly and without calculating them.

F(n) is phi^n / sqrt(5) but for a fraction that shrinks with n (Binet), so that its decimal length is
floor(n log10(phi) - log10(sqrt(5))) + 1. Both logarithms are held as whole numbers of 10**-48. For every index up
to LARGEST_INDEX that is precise enough for the floor to be right: proven by a test, which sums both ends of the
error interval over all of them.
"""

from decimal import Context, Decimal

from fibonacci.checks import require_natural
from fibonacci.sequence import LARGEST_INDEX, xsequence

SCALE = 10**48

# Below it Binet's fraction could show within SCALE (phi^-256 is about 10^-53); these lengths are counted instead.
FIRST_BY_LOGARITHM = 128
COUNTED_LENGTHS = tuple(len(str(term)) for term in xsequence(FIRST_BY_LOGARITHM))


def _scaled_logarithms() -> tuple[int, int]:
    """Return log10(phi) and log10(sqrt(5)) in units of 1/SCALE, rounded down."""
    context = Context(prec=80)
    root = context.sqrt(Decimal(5))
    phi = context.divide(context.add(Decimal(1), root), Decimal(2))
    log_phi, log_root = context.log10(phi), context.log10(root)
    return int(context.multiply(log_phi, Decimal(SCALE))), int(context.multiply(log_root, Decimal(SCALE)))


LOG_PHI, LOG_ROOT_5 = _scaled_logarithms()


def digits(n: int) -> int:
    """Return the number of decimal digits of F(n), for *n* from 0 to LARGEST_INDEX, else ValueError."""
    return total_digits(n, 1)


def total_digits(start: int, count: int) -> int:
    """Return the number of decimal digits of F(start) … F(start + count - 1) together.

    Its time does not depend on *count*. Raises ValueError for a negative number or a term above LARGEST_INDEX.
    """
    require_natural("start", start, LARGEST_INDEX)
    require_natural("count", count, LARGEST_INDEX + 1 - start)
    stop = start + count
    counted = sum(COUNTED_LENGTHS[start:stop])
    first = max(start, FIRST_BY_LOGARITHM)
    rest = max(stop - first, 0)
    return counted + rest + floor_sum(rest, SCALE, LOG_PHI, LOG_PHI * first - LOG_ROOT_5)


def floor_sum(count: int, divisor: int, step: int, offset: int) -> int:
    """Return the sum of floor((step * i + offset) / divisor) over i from 0 to count - 1, for divisor, step > 0.

    Counts the lattice points under the line, swapping the axes as Euclid's algorithm does (Graham, Knuth, Patashnik:
    Concrete Mathematics, section 3.5), in time logarithmic in *count*.
    """
    total = 0
    while True:
        whole_step, step = divmod(step, divisor)
        whole_offset, offset = divmod(offset, divisor)
        total += count * (count - 1) // 2 * whole_step + count * whole_offset
        end = step * count + offset
        if end < divisor:
            return total
        count, offset = divmod(end, divisor)
        divisor, step = step, divisor
