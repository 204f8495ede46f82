"""Numbers with their nouns, for messages."""


def plural(number: int, singular: str, plural_form: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> plural(1, "slice", "slices"), plural(2, "slice", "slices")
    ('1 slice', '2 slices')
    """
    return f"{number} {singular if number == 1 else plural_form}"
