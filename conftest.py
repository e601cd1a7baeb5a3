"""Makes nbval run notebooks as JupyterLab does, in private folders, and look at their figures."""

import base64
import io
import os
import tempfile
import time
from pathlib import Path
from queue import Empty

import numpy as np
import pytest
from PIL import Image

from alexnet_lib import cores
from alexnet_lib.runs.jupyter import kernel_channels, kernel_environment
from tests.baseline import CHECKED_ENVIRONMENT, chain_of, private_folders

# A figure is compared by the mean of each tile: a rendering that differs in a pixel or in smoothing passes, a
# moved line or another digit does not.
TILE = 8  # pixels
LARGEST_DIFFERENCE = 24  # of 255
POLL = 1.0  # seconds between two looks at whether the kernel lives


FOLDER = pytest.StashKey[str]()


def pytest_configure(config):
    """What the notebooks train lies in $ALEXNET_CHECKED, for those who come after, or goes away."""
    if config.getoption("nbval", False) or config.getoption("nbval_lax", False):
        if "ALEXNET_CHECKED" in os.environ:
            config.stash[FOLDER] = os.path.abspath(os.environ["ALEXNET_CHECKED"])
        else:
            folder = tempfile.TemporaryDirectory(prefix="notebooks-")
            config.add_cleanup(folder.cleanup)
            config.stash[FOLDER] = folder.name
        change_nbval(config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """For `-n auto`: one more than there are cores, since many tests wait, for a browser or for other processes."""
    return cores() + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Notebooks that build on each other run in one worker, in order."""
    if FOLDER in config.stash:
        from xdist.scheduler import LoadScopeScheduling

        class ChainScheduling(LoadScopeScheduling):
            def _split_scope(self, nodeid):
                return chain_of(Path(nodeid.split("::")[0]).stem)

        return ChainScheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """The notebooks of a chain find each other's records, and nobody else's."""
    if hasattr(item, "cell"):
        os.environ.update(private_folders(Path(item.config.stash[FOLDER], chain_of(item.path.stem))))


def pytest_runtest_call(item):
    """nbval compares nothing for a cell that was committed without being run."""
    if hasattr(item, "cell") and item.cell.execution_count is None:
        pytest.fail("committed without an execution count, so nothing would be compared: `make baseline`")


def change_nbval(config):
    """Kernels start as `make baseline` starts them; the other changes say why themselves."""
    import nbval.kernel
    from nbval.plugin import IPyNbCell

    original = nbval.kernel.start_new_kernel

    def start_new_kernel(**options):
        return original(env=kernel_environment(**CHECKED_ENVIRONMENT), **options)

    manager = nbval.kernel.KernelManager

    def new_manager(**options):
        sockets = tempfile.TemporaryDirectory(prefix="kernel-")
        config.add_cleanup(sockets.cleanup)
        return manager(**options, **kernel_channels(sockets.name))

    nbval.kernel.KernelManager = new_manager
    nbval.kernel.start_new_kernel = start_new_kernel
    nbval.kernel.RunningKernel.execute_cell_input = execute_cell_input
    nbval.kernel.RunningKernel.await_reply = await_reply(nbval.kernel.RunningKernel.await_reply)
    IPyNbCell.compare_outputs = compare_outputs(IPyNbCell.compare_outputs)


def execute_cell_input(self, cell_input, allow_stdin=None):
    # IPython looks in the history for the `;` that silences a cell
    return self.kc.execute(cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)


def await_reply(original):
    """nbval waits out the whole timeout of a cell when its kernel has died."""

    def await_reply_while_alive(self, msg_id, timeout=None):
        end = time.monotonic() + (timeout or float("inf"))
        while True:
            try:
                return original(self, msg_id, timeout=min(POLL, max(0.01, end - time.monotonic())))
            except Empty:
                if not self.is_alive():
                    raise RuntimeError("the kernel died in this cell: out of memory, or a crash") from None
                if time.monotonic() >= end:
                    raise

    return await_reply_while_alive


def compare_outputs(original):
    """nbval passes over pictures."""

    def compare_outputs_and_figures(self, test, ref, skip_compare=None):
        if not original(self, test, ref, skip_compare):
            return False
        difference = figure_difference(pictures_in(ref), pictures_in(test))
        self.comparison_traceback += [difference] if difference else []
        return not difference

    return compare_outputs_and_figures


def pictures_in(outputs) -> list:
    found = [o["data"][kind] for o in outputs for kind in ("image/png", "image/jpeg") if kind in o.get("data", {})]
    return [Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB") for data in found]


def figure_difference(committed, drawn) -> str:
    """What tells two lists of figures apart, or nothing."""
    if len(committed) != len(drawn):
        return f"{len(committed)} figures are committed, {len(drawn)} were drawn"
    for number, (old, new) in enumerate(zip(committed, drawn, strict=True), 1):
        if max(abs(old.width - new.width), abs(old.height - new.height)) > 2:
            return f"figure {number} is {old.size} pixels where committed, {new.size} where drawn"
        tiles = [np.asarray(image.reduce(TILE), float) for image in (old, new.resize(old.size))]
        largest = np.abs(tiles[0] - tiles[1]).max()
        if largest > LARGEST_DIFFERENCE:
            return f"figure {number} differs: a tile by {largest:.0f} of 255, more than {LARGEST_DIFFERENCE}"
    return ""
