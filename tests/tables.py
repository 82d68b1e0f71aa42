"""The tables of README and callback that follow from the code: ``python tests/tables.py`` writes them anew.

tests/test_readme.py holds them against the code.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from textwrap import fill

from lightning_infoplane.measurement.quantities import QUANTITIES
from lightning_infoplane.measurement.quantity import Logged, Of, Quantity

ROOT = Path(__file__).parents[1]
README, CALLBACK = ROOT / "README.md", ROOT / "lightning_infoplane" / "callback.py"

# What stands around the list in the callback's docstring.
_BEFORE, _AFTER = "to every logger of the Trainer:\n\n", "\n    They are in ``trainer.callback_metrics``"
_PLACES = {Of.PROBE: "", Of.LAYER: "/{layer}", Of.PAIR: "/{a}-to-{b}"}


def logged_quantities() -> list[Quantity]:
    return [quantity for quantity in QUANTITIES if quantity.logged is not Logged.NEVER]


def key(quantity: Quantity) -> str:
    return quantity.key + _PLACES[quantity.of]


def listed(quantities: Iterable[Quantity]) -> str:
    return ", ".join(f"`{quantity.key}`" for quantity in quantities)


def readme_table() -> str:
    """A row a quantity, then the values that belong to some of them."""
    lines = ["| key | meaning | unit | logged |", "|---|---|---|---|"]
    for quantity in logged_quantities():
        asked = f" With `{quantity.option}=True`." if quantity.option else ""
        name = f"{quantity.symbol}, {quantity.name}".removeprefix(", ").replace("*", r"\*")
        meaning = f"**{name}**. {quantity.meaning}{asked}"
        lines.append(f"| `{key(quantity)}` | {meaning} | {quantity.unit or '-'} | {quantity.logged.value} |")
    mixed = listed(quantity for quantity in QUANTITIES if quantity.shuffled)
    tested = listed(quantity for quantity in QUANTITIES if quantity.independence is not None)
    gaps = listed(quantity for quantity in QUANTITIES if quantity.is_tested and quantity.independence is None)
    with_error = listed(quantity for quantity in QUANTITIES if quantity.stderr)
    lines += [
        f"| `…_chance/…` | **shuffled**. Of {mixed}: the mean after shuffling the samples. | the same | all |",
        f"| `…_p/…` | **p**. Of {tested}: how likely so large a value is by chance alone, from the moments of the "
        f"permutation distribution. Of {gaps}: Student's, on the side of zero where the gap is. | - | all |",
        f"| `…_stderr/…` | **standard error**. Of {with_error}: over the probe, by blocks or by `Jackknife()`, of a "
        "solver that is not exact, of sampled pairs of maps. | the same | all |",
    ]
    return "\n".join(lines)


def docstring_list() -> str:
    """The same for the docstring, a line a quantity."""
    lines = []
    for quantity in logged_quantities():
        asked = f", with ``{quantity.option}``" if quantity.option else ""
        note = "" if quantity.logged is Logged.MAIN else '; with ``Outputs(log="all")``'
        entry = f"- ``{key(quantity)}``: {quantity.label}{asked}{note}"
        lines.append(fill(entry, 120, initial_indent="    ", subsequent_indent="      "))
    ends = "``…_chance``, ``…_p`` and ``…_stderr``"
    return "\n".join([*lines, f'    - {ends} of some of them, with ``Outputs(log="all")``']) + "\n"


def with_readme_table(text: str) -> str:
    table = f"<!-- quantities -->\n{readme_table()}\n<!-- end -->"
    return re.sub(r"(?s)<!-- quantities -->.*?<!-- end -->", lambda _: table, text)


def with_docstring_list(text: str) -> str:
    head, rest = text.split(_BEFORE, 1)
    _, tail = rest.split(_AFTER, 1)
    return head + _BEFORE + docstring_list() + _AFTER + tail


if __name__ == "__main__":
    README.write_text(with_readme_table(README.read_text(encoding="utf-8")), encoding="utf-8")
    CALLBACK.write_text(with_docstring_list(CALLBACK.read_text(encoding="utf-8")), encoding="utf-8")
