"""The notebooks: what is committed is a run without errors; with -m notebook they run anew."""
import importlib.util
import json
import os
import re
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SIZE = 1.5e6  # bytes a notebook may have
SECONDS = 120  # a run, on two cores with nothing else to do

pytestmark = pytest.mark.skipif(not NOTEBOOKS, reason="the notebooks are not here (a wheel)")
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def joined(value):
    return "".join(value) if isinstance(value, list) else value


def kinds(notebook):
    """For each code cell what came out: streams, pictures, values."""
    return [sorted({"image" if "image/png" in o.get("data", {}) else o["output_type"]
                    for o in cell["outputs"]})
            for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_all_are_there():
    assert len({p.stem[:2] for p in NOTEBOOKS}) == len(NOTEBOOKS) >= 2


@each
def test_committed_with_the_outputs_of_one_run(path):
    notebook = read(path)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert not [o for o in outputs if o.get("name") == "stderr"], "a warning among the outputs"
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= 2
    for cell in code:
        last = joined(cell["source"]).rstrip().split("\n")[-1]
        assert cell["outputs"] or not last.startswith(("print(", "reidc.plot.")), last
    assert notebook["cells"][0]["cell_type"] == "markdown"
    assert joined(notebook["cells"][0]["source"]).startswith("# ")


@each
def test_nothing_of_the_machine_it_ran_on(path):
    notebook = read(path)
    assert notebook["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"}}
    assert notebook["nbformat"] == 4 and notebook["nbformat_minor"] >= 5
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    words = [joined(cell["source"]) for cell in notebook["cells"]]
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            words.append(joined(output.get("text", "")))
            words += [joined(v) for k, v in output.get("data", {}).items() if k != "image/png"]
    found = re.findall(r"(?<![\w.])/(?:home|root|work|tmp|usr|var|mnt|opt|Users)/\S*|\b[A-Z]:\\\S*",
                       "\n".join(words))
    assert not found, "absolute paths"
    assert path.stat().st_size <= SIZE


@pytest.mark.slow
@pytest.mark.notebook
@each
def test_runs_top_to_bottom(path):
    for name in ("nbclient", "ipykernel", "matplotlib"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra: notebook)")
    spec = importlib.util.spec_from_file_location("run", FOLDER / "run.py")
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    began = time.monotonic()
    notebook = run.execute(path)
    took = time.monotonic() - began
    if os.getloadavg()[0] <= os.cpu_count() + 1:  # a crowded machine measures itself
        assert took <= SECONDS
    assert kinds(notebook) == kinds(read(path))  # as many pictures and words as are committed
