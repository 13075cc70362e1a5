"""The ablation tables of the package beside the pages' counts, which tests keep apart, and beside
the networks themselves: every row can be built."""
import inspect

import pages
import pytest
from reidc import ablations, networks, recipes

DISTINCT = {"mbgn": 14, "mfa": 8, "hamr": 25, "mgaf": 6, "fsac": 4}
ROWS = {("mbgn", "2"): 6, ("mbgn", "3"): 6, ("mbgn", "4"): 4, ("mfa", "2"): 4, ("mfa", "3"): 6,
        ("hamr", "6/8"): 6, ("hamr", "7"): 8, ("hamr", "9"): 9, ("hamr", "10"): 8,
        ("mgaf", "1/2"): 6, ("fsac", "2/1"): 4}


def whole(system, switches):
    """All keywords of a system's class with their values."""
    known = inspect.signature(networks.SYSTEMS[system]).parameters
    assert set(switches) <= set(known), switches
    return {name: switches.get(name, p.default) for name, p in known.items()
            if name != "num_classes"}


def rows(system):
    return [row for table in ablations.TABLES[system] for row in table.rows]


def test_every_row_is_there():
    assert {(system, table.number): len(table.rows) for system, tables in
            ablations.TABLES.items() for table in tables} == ROWS
    for system, count in DISTINCT.items():
        assert len({row.key for row in rows(system)}) == count


@pytest.mark.parametrize("system", ablations.TABLES)
def test_rows_that_coincide_have_one_key(system):
    for a in rows(system):
        for b in rows(system):
            same = (whole(system, a.switches) == whole(system, b.switches)
                    and a.training == b.training)
            assert (a.key == b.key) == same, (a.key, b.key)
            assert not same or a.parameters == b.parameters
    for table in ablations.TABLES[system]:
        keys = [row.key for row in table.rows]
        assert len(set(keys)) == len(keys)
        assert all(row.paper and set(row.paper) == set(table.columns) for row in table.rows)


@pytest.mark.parametrize("system", ablations.TABLES)
def test_parameters_are_the_pages(system):
    """Both copies of the page's table have the same rows with the same counts."""
    printed = [(whole(system, page.options), page) for page in pages.ROWS
               if page.system == system.upper() and page.options == page.switches]
    for table in ablations.TABLES[system]:
        for row in table.rows:
            page, = [page for switches, page in printed if switches == whole(system, row.switches)]
            assert row.parameters == (page.inference if table.inference else page.parameters), row
    assert sum(row.parameters is not None for row in rows(system)) > 3


@pytest.mark.parametrize("system", ablations.TABLES)
def test_rows_fit_the_small_size(system):
    """Every row is a legal network and recipe at small scale, and no two of them the same."""
    base, seen = ablations.base_recipe(system), []
    for row in {row.key: row for row in rows(system)}.values():
        recipe = ablations.row_recipe(base, row)
        m = networks.build_model(system, 5, **recipe["options"])
        assert m.num_parameters < 12_000_000 and (m.height, m.width) == (96, 32)
        seen.append((m.config, recipe))
        assert ablations.row_recipe(base, row) == recipe  # the base is left as it was
    assert all(a != b for i, a in enumerate(seen) for b in seen[:i])


@pytest.mark.parametrize("system", [s for s in ablations.TABLES
                                    if ablations.SCALES["full"].format(s) in recipes.names()])
def test_rows_fit_the_published_recipe(system):
    """At full scale every row is a recipe with the switches of its class, each its own."""
    base, seen = ablations.base_recipe(system, "full"), []
    for row in {row.key: row for row in rows(system)}.values():
        recipe = ablations.row_recipe(base, row)
        seen.append((whole(system, recipe["options"]), recipe))
        assert recipe.rate()(0) > 0 and recipe["epochs"] == base["epochs"] >= 100
    assert all(a != b for i, a in enumerate(seen) for b in seen[:i])
