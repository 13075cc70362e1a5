"""Run notebooks top to bottom and keep their outputs: `python notebooks/run.py [NAME …]`.

Needs nbclient and ipykernel (`pip install 'reidc[notebook]'`). Without a name all are run, each in
a fresh kernel of this Python. A cell that fails ends it with the cell's error; the file is then
left as it was.
"""
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LIMIT = 1800  # seconds a cell may take, on a crowded machine


def execute(path):
    """The notebook with the outputs of a run; nbclient's CellExecutionError where a cell fails."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, kernel_name=KERNEL["name"], timeout=LIMIT,
                            record_timing=False, coalesce_streams=True,
                            resources={"metadata": {"path": str(FOLDER)}})
    client.execute()
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


def main(names):
    import nbformat

    paths = [FOLDER / name for name in names] or sorted(FOLDER.glob("*.ipynb"))
    for path in paths:
        began = time.monotonic()
        notebook = execute(path)
        text = nbformat.writes(notebook, version=4)
        path.write_text(text + "\n", encoding="utf-8")
        took = time.monotonic() - began
        print(f"{path.name}: {took:.0f} s, {len(text) / 1e6:.2f} MB", flush=True)


if __name__ == "__main__":
    main([Path(name).name for name in sys.argv[1:]])
