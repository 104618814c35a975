"""Numbers for people."""


def digits(value: float | None) -> str:
    """Three significant digits, and no exponent; nothing for what was not measured."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
