"""The words of the doctor's advice: numbers as a person would write them into the config."""

from training.diagnosis.signals import Facts


def number(value: float) -> str:
    """Three digits are enough to see by."""
    return f"{value:.3g}"


def rate(value: float) -> str:
    """A learning rate that was computed from what was seen: one digit, for the rule behind it knows no more."""
    return f"{float(f'{value:.0e}'):g}"


def in_code(hint: str) -> str:
    """What no line of the config can mend, said where one would stand."""
    return f"# in the code of the network: {hint}"


def tabular(facts: Facts, line: str, hint: str) -> str:
    """A line that only the preset `tabular` has; elsewhere the fix is in the code of the network."""
    return line if facts.preset == "tabular" else in_code(hint)
