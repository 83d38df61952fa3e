"""The sequence once more, slowly and by other means than the package: what its tests compare it with."""


def by_loop(count: int) -> list[int]:
    """Return F(0) … F(count - 1) by adding."""
    terms = [0, 1]
    while len(terms) < count:
        terms.append(terms[-2] + terms[-1])
    return terms[:count]


def by_matrix(n: int) -> int:
    """Return F(n) as an entry of the n-th power of ((1, 1), (1, 0)), by repeated squaring."""
    power, base = ((1, 0), (0, 1)), ((1, 1), (1, 0))
    while n:
        if n % 2:
            power = _product(power, base)
        base = _product(base, base)
        n //= 2
    return power[0][1]


Matrix = tuple[tuple[int, int], tuple[int, int]]


def _product(left: Matrix, right: Matrix) -> Matrix:
    (a, b), (c, d) = left
    (e, f), (g, h) = right
    return (a * e + b * g, a * f + b * h), (c * e + d * g, c * f + d * h)
