"""Checks of arguments that every function of the package makes alike."""


def require_integer(name: str, value: object) -> None:
    """Raise ValueError unless *value* is an int; a bool is not taken for one."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} must be an int, not {type(value).__name__}")


def require_natural(name: str, value: int, maximum: int | None = None) -> None:
    """Raise ValueError unless *value* is an int from 0 to *maximum* (None: without end)."""
    require_integer(name, value)
    if value < 0:
        raise ValueError(f"{name} must not be negative")
    if maximum is not None and value > maximum:
        raise ValueError(f"{name} must be at most {maximum}")
