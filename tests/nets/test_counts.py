"""Sizes of the engine's networks, the default and every ablation row: what the pages print
(pages.py), and the committed table of docs/systems.md, which `test_twin_systems.py` holds the
PyTorch twins to. Run as a program, this file writes the tables anew, from the engine."""
import re
from pathlib import Path

import pages
import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "systems.md"
COLUMNS = ("parameters", "inference", "tensors", "entries", "macs", "dimension")


def switches_text(page):
    return ", ".join(f"{k}={v!r}" for k, v in page.switches.items()) or "default"


def table_row(page, counts):
    """Bold: the page prints it (to fewer digits, where it is multiply-accumulates in G)."""
    cells = []
    for name in COLUMNS:
        number = f"{counts[name]:,}"
        cells.append(f"**{number}**" if getattr(page, name) is not None else number)
    return f"| `{switches_text(page)}` | " + " | ".join(cells) + " |"


def committed():
    """{str(page): the row in docs/systems.md}."""
    found = {}
    for system, text in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", DOCS.read_text("utf-8"),
                                   re.DOTALL | re.MULTILINE):
        lines = [line for line in text.splitlines() if line.startswith("| `")]
        rows = [p for p in pages.ROWS if p.system == system]
        assert len(lines) == len(rows), system
        found |= {str(p): line for p, line in zip(rows, lines)}
    return found


def engine_counts(page):
    import reidc

    height, width = page.size
    m = getattr(reidc, page.system)(751, height, width, **page.options)
    return {"parameters": m.num_parameters, "inference": m.num_inference_parameters,
            "tensors": len(m.parameters()), "entries": len(m.state_dict()), "macs": m.macs,
            "dimension": m.dimension, "literal": m.macs_literal}


@pytest.mark.parametrize("page", [
    pytest.param(p, id=str(p), marks=[pytest.mark.slow] * bool(p.switches)) for p in pages.ROWS])
def test_engine(page):
    got = engine_counts(page)
    assert not page.disagreements(got), got
    assert table_row(page, got) == committed()[str(page)]


def test_the_table_has_every_row_and_what_the_pages_print():
    rows = committed()
    assert list(rows) == [str(p) for p in pages.ROWS]
    for page in pages.ROWS:
        head, *cells = rows[str(page)].strip("| ").split(" | ")
        assert head == f"`{switches_text(page)}`"
        numbers = {k: int(c.strip("*").replace(",", "")) for k, c in zip(COLUMNS, cells)}
        assert not page.disagreements(numbers | {"literal": page.literal}), page
        for k, c in zip(COLUMNS, cells):
            assert c.startswith("**") == (getattr(page, k) is not None), (page, k)


def test_readme_table():
    """Every network that there is, with the counts of its default row."""
    found = re.findall(r"^\| `reidc\.(\w+)` \|.*\| (\d+)×(\d+) \| ([\d,]+) \| (\d+) \| (\d+) \|$",
                       (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(row[0] for row in found) == sorted(pages.TABLES)
    rows = committed()
    for name, height, width, *numbers in found:
        assert (int(height), int(width)) == pages.SIZES[name]
        cells = rows[name].replace("**", "").strip("| ").split(" | ")
        assert numbers == [cells[1], cells[3], cells[4]]


def write():
    text = DOCS.read_text("utf-8")
    head = "| switches | parameters | in inference | tensors | state entries | MACs | embedding |"
    for system in pages.TABLES:
        rows = [table_row(p, engine_counts(p)) for p in pages.ROWS if p.system == system]
        body = "\n".join([head, "| --- " * (1 + len(COLUMNS)) + "|", *rows])
        text = re.sub(rf"(^## {system}\n\n[^|#]*)(?:\|[^\n]*\n)*",
                      lambda m, body=body: m[1] + body + "\n", text, flags=re.MULTILINE)
        print(f"{system}: {len(rows)} rows")
    DOCS.write_text(text, "utf-8")


if __name__ == "__main__":
    write()
