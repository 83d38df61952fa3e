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


def text_of(value: int) -> bytes:
    """Return the decimal text of *value*, halving what is longer than Python's digit limit."""
    if value < 10**4_000:
        return b"%d" % value
    half = value.bit_length() * 3 // 20  # about half of the digits
    upper, lower = divmod(value, 10**half)
    return text_of(upper) + text_of(lower).rjust(half, b"0")


def modulo(text: bytes, modulus: int) -> int:
    """Return the number that *text* is, modulo *modulus*, in pieces below Python's digit limit."""
    value = 0
    for begin in range(0, len(text), 4_000):
        piece = text[begin : begin + 4_000]
        value = (value * pow(10, len(piece), modulus) + int(piece)) % modulus
    return value


def by_matrix_modulo(n: int, modulus: int) -> int:
    """Return F(n) modulo *modulus*, as `by_matrix` does it."""
    power, base = ((1, 0), (0, 1)), ((1, 1), (1, 0))
    while n:
        if n % 2:
            power = _remainders(_product(power, base), modulus)
        base = _remainders(_product(base, base), modulus)
        n //= 2
    return power[0][1]


def _remainders(matrix: Matrix, modulus: int) -> Matrix:
    (a, b), (c, d) = matrix
    return (a % modulus, b % modulus), (c % modulus, d % modulus)
