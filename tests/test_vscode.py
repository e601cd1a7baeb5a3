"""Notebooks under kernels as VS Code and nbclient start them: nothing in them needs JupyterLab.

What VS Code's Jupyter extension does, in its sources (microsoft/vscode-jupyter): it starts ipykernel in its own
environment, in the notebook's folder or that of the workspace, runs some lines of its own, which leave names behind,
and stops a cell by a SIGINT to the kernel alone, whose children don't hear it. When it saves a notebook, it names the
kernel as its menu does and adds the version of Python. Nobody answers here when widgets open their channels.
"""

import os
import signal

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbformat import NotebookNode
from nbformat.v4 import output_from_msg

from alexnet_lib.paths import NOTEBOOKS, REPOSITORY
from alexnet_lib.runs.jupyter import kernel_environment
from tests.baseline import problems, text_of
from tests.test_lab_first_hour import QUICK, asked, without_outputs
from tests.test_launch import SLOWLY

NOTEBOOK = NOTEBOOKS / "07_train.ipynb"
CELLS = {cell.id: cell.source for cell in nbformat.read(NOTEBOOK, 4).cells}
VSCODE = {"VSCODE_PID": "1", "VSCODE_CWD": str(REPOSITORY), "PYDEVD_IPYTHON_COMPATIBLE_DEBUGGING": "1"}
BEGINS = f"""
import os as _VSCODE_os
import sys as _VSCODE_sys
%cd "{{folder}}"
if _VSCODE_os.getcwd() not in _VSCODE_sys.path:
    _VSCODE_sys.path.insert(0, _VSCODE_os.getcwd())
del _VSCODE_sys
del _VSCODE_os
import matplotlib
%matplotlib inline
_VSCode_defaultMatplotlib_Params = dict(matplotlib.rcParams)
%config Completer.use_jedi = False
__vsc_ipynb_file__ = {str(NOTEBOOK)!r}
"""


# where its kernel works, and whether VS Code starts it
FRONT_ENDS = {
    "VS Code, notebook's folder": (NOTEBOOKS, True),
    "VS Code, workspace": (REPOSITORY, True),
    "nbclient": (NOTEBOOKS, False),
}


class Kernel:
    """An ipykernel as a front end without JupyterLab's server starts it, and what its cells put out."""

    def __init__(self, front_end: str, **variables: str):
        folder, self.in_vscode = FRONT_ENDS[front_end]
        own = dict.fromkeys(("ALEXNET_PROGRESS", "JPY_SESSION_NAME", "PYTEST_CURRENT_TEST", "MPLBACKEND"))
        own |= {"PYTHONPATH": str(REPOSITORY)} | (VSCODE if self.in_vscode else {}) | variables
        self.manager, self.client = start_new_kernel(cwd=str(folder), env=kernel_environment(**own))
        if self.in_vscode:
            began = self.client.execute_interactive(BEGINS.format(folder=folder), silent=True, timeout=60)
            assert began["content"]["status"] == "ok"
        self.run(SLOWLY.format(seconds=0.3))

    def stop(self) -> None:
        if self.in_vscode:
            os.kill(self.manager.provisioner.pid, signal.SIGINT)
        else:
            self.manager.interrupt_kernel()

    def run(self, code: str, stop_after: str | None = None) -> list[NotebookNode]:
        """What a cell puts out, as it is saved; the cell is stopped once it has said something."""
        outputs = []

        def hook(message):
            if message["msg_type"] in ("display_data", "execute_result", "stream", "error"):
                outputs.append(output_from_msg(message))
            if stop_after and stop_after in message["content"].get("text", ""):
                self.stop()

        self.client.execute_interactive(code, output_hook=hook, timeout=240)
        return outputs

    def end(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def start():
    kernels = []

    def start(front_end, **variables):
        kernels.append(Kernel(front_end, **variables))
        return kernels[-1]

    yield start
    for kernel in kernels:
        kernel.end()


def said(outputs: list[NotebookNode]) -> str:
    return "".join(output.get("text", "") for output in outputs)


@pytest.mark.parametrize("front_end", ["VS Code, notebook's folder"])
def test_a_notebook_trains_is_stopped_and_finds_its_run(place, start, front_end):
    """Lines in place of a bar, two lines after Stop; a new kernel goes on with the run, and another reads it."""
    kernel = start(front_end)
    kernel.run(asked(CELLS["parameters"], epochs=4, **QUICK))
    assert [o for o in kernel.run(CELLS["settings"]) if o.output_type == "error"] == []
    *before, error = kernel.run(CELLS["train-run"], stop_after="epoch 2 of 4")
    assert error.output_type == "error" and error.ename == "Interrupted" and "epoch 2 of 4" in said(before)
    (folder,) = (place / "runs" / "train").glob("*/")
    kept, how = error.traceback
    assert kept.startswith("Stopped: the last whole checkpoint is of ") and str(folder) in kept
    assert how == "Run it again, with the same settings, to go on."
    kernel.end()

    kernel = start(front_end)  # the window is closed, and opened again
    kernel.run(asked(CELLS["parameters"], epochs=4, **QUICK))
    kernel.run(CELLS["settings"])
    outputs = kernel.run(CELLS["train-run"])
    assert said(outputs).startswith("This run goes on from") and "epoch 4 of 4" in said(outputs)
    assert {output.output_type for output in outputs} == {"stream"}
    assert [path.parent for path in (place / "runs" / "train").glob("*/summary.json")] == [folder]
    again = said(kernel.run(CELLS["train-run"]))
    assert again.startswith(f"This run is finished, so it was read and not trained: {folder}")

    kernel.run(CELLS["parameters"] + "\nwidht = 0.25")
    (error,) = kernel.run(CELLS["settings"])
    assert "unknown parameter 'widht'; did you mean 'width'?" in error.evalue


@pytest.mark.parametrize("front_end", ["VS Code, workspace", "nbclient"])
def test_a_slider_leaves_its_figure(place, start, front_end):
    """The figure alone; where controls are asked for, the figure is an output of its own beside them."""
    draw = "slider(lambda end: curves.curves({'line': ([1, 2], [3, end])}, 'x', 'y'), end=([4, 5], 4))"
    with_controls = "import os\nos.environ['ALEXNET_PROGRESS'] = 'bar'\n" + draw
    kernel = start(front_end)
    assert kernel.run("from alexnet_lib.figures import curves\nfrom alexnet_lib.notebook import slider") == []
    (alone,) = kernel.run(draw)
    controls, beside = kernel.run(with_controls)
    assert alone.output_type == "execute_result" and beside.output_type == "display_data"
    for figure in (alone, beside):
        assert figure.data.keys() == {"image/png", "text/plain"} and figure.metadata["image/png"]["alt"]
    assert controls.data["text/plain"] == "(run this cell to choose: end)"


def as_vscode_saves(notebook: NotebookNode) -> NotebookNode:
    """The notebook with what VS Code writes beside outputs."""
    language = {"name": "python", "version": "3.11.2", "mimetype": "text/x-python", "file_extension": ".py"}
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": ".venv (3.11.2)", "language": "python", "name": "python3"},
            "language_info": language,
        }
    )
    for cell in notebook.cells:
        cell.metadata["vscode"] = {"languageId": "python" if cell.cell_type == "code" else "markdown"}
    return notebook


@pytest.mark.parametrize("front_end", ["VS Code, workspace", "nbclient"])
def test_saving_changes_outputs_and_nothing_else_that_is_committed(start, front_end):
    """Of a notebook that was only looked at, not even outputs, once it is in the committed form again."""
    path = NOTEBOOKS / "04_pooling.ipynb"
    saved, committed = (nbformat.read(path, 4) for _ in range(2))
    in_vscode = FRONT_ENDS[front_end][1]
    assert text_of(as_vscode_saves(saved) if in_vscode else saved) == path.read_text(encoding="utf-8")

    kernel = start(front_end)
    for count, name in enumerate(("parameters", "settings", "headline", "mine", "backwards", "credit-figure"), 1):
        (cell,) = (cell for cell in saved.cells if cell.id == name)
        cell.execution_count, cell.outputs = count, kernel.run(cell.source)
        assert [o.get("evalue") for o in cell.outputs if o.output_type == "error"] == []
        (before,) = (cell for cell in committed.cells if cell.id == name)
        kinds = [[o.get("data", {}).keys() - {"text/plain"} for o in c.outputs] for c in (cell, before)]
        assert kinds[0] == kinds[1]
    assert without_outputs(saved) == without_outputs(committed)
    assert problems(saved) == []
