"""Numbers as a reader wants them: bytes, seconds, counts, AUCs."""

from __future__ import annotations


def as_bytes(count: float) -> str:
    """`count` bytes in decimal units: 12.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def as_seconds(seconds: float) -> str:
    """A duration: 0.42 s, 31 s, 12 min 5 s, 3 h 20 min."""
    if seconds < 9.95:
        return f"{seconds:.2g} s" if seconds >= 0.095 else f"{seconds * 1000:.2g} ms"
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def as_some(text: str) -> str:
    """A dash in place of nothing at all, so that a table shows where there is something."""
    return "–" if text in ("0 B", "0 ms", "0") else text


def as_count(count: float) -> str:
    """A whole number with thousands set off: 81,022."""
    return f"{count:,.0f}"


def as_figure(value: float | None, digits: int = 4) -> str:
    """A metric with fixed digits; a dash where it is unknown."""
    return "–" if value is None else f"{value:.{digits}f}"


def as_difference(value: float, digits: int = 4) -> str:
    """A signed difference with a true minus sign, and zero without one."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else "−") + text


def as_percent(share: float, digits: int = 1) -> str:
    """A share as per cent."""
    return f"{100 * share:.{digits}f}%"


def as_list(names: tuple[str, ...]) -> str:
    """Names in a sentence: a, b and c."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def as_times(ratio: float) -> str:
    """How many times more or fewer: 3.77, 17.3."""
    return f"{ratio:.3g}"


def as_error(error: float | None) -> str:
    """A relative error to two digits; a dash where it is unknown."""
    return "–" if error is None else f"{error:.2g}"


def as_value(value: float | None) -> str:
    """A value of a column: four digits, and no exponent for what people write without one."""
    if value is None:
        return "–"
    if 1000 <= abs(value) < 1e9:
        return f"{value:,.0f}".replace("-", "−")
    return as_number(value)


def as_number(value: float | None) -> str:
    """A coefficient to four digits, whatever its size; a dash where it is unknown."""
    return "–" if value is None else f"{value:.4g}".replace("-", "−")


def as_chance(value: float | None) -> str:
    """A p-value to four places; a dash where it is unknown."""
    if value is None:
        return "–"
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"
