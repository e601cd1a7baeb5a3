"""The benchmarks compare like with like, and what they keep is what README and the notebooks say."""

import importlib.util
import json

import numpy as np
import pandas as pd
import pytest
import torch

from alexnet_lib import LocalResponseNorm, prepare
from alexnet_lib.paths import REFERENCE, REPOSITORY


def script(name):
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


step = script("step")


def test_each_way_adds_one_part_to_the_one_before():
    names = ("kept memory", "own LRN", "channels last", "fused update")
    changed = [
        {k for k in step.choices(one) if step.choices(one)[k] != step.choices(other)[k]}
        for one, other in zip((step.PLAIN, *names), names, strict=False)
    ]
    assert changed == [{"allocator"}, {"norm"}, {"layout"}, {"optimizer"}]
    assert step.choices(step.OWN)["bf16"] and step.choices("fast without LRN") == step.choices(step.OWN) | {
        "norm": None
    }
    without, plain = step.choices("plain without LRN"), step.choices(step.PLAIN)
    assert {name for name in plain if plain[name] != without[name]} == {"norm"}


def test_the_plain_net_is_the_same_function():
    nets = [step.build("paper", norm, image_size=64, width=0.25) for norm in ("torch", "own", None)]
    kinds = [type(net.norm1) for net in nets[:2]]
    assert kinds == [torch.nn.LocalResponseNorm, LocalResponseNorm] and not hasattr(nets[2], "norm1")
    torch.manual_seed(0)
    x = torch.rand(2, 3, 64, 64) * 255 - 128
    columns = [net.norm1(net[:3](x)) for net in nets[:2]]
    inner = [i for i in range(24) if i not in (10, 11, 12, 13)]  # torch's windows reach into the other column
    torch.testing.assert_close(columns[0][:, inner], columns[1][:, inner], rtol=1e-4, atol=1e-5)


def test_the_loops_over_files_leave_the_same_pixels(tmp_path, monkeypatch):
    preparation = script("preparation")
    monkeypatch.setattr(preparation, "FILES", 6)
    (source := tmp_path / "pictures").mkdir()
    files = preparation.write_pictures(source)
    preparation.bare_loop(files, tmp_path / "bare.npy")
    preparation.plain_loop(files, tmp_path / "plain.npy")
    preparation.bare_loop(files, tmp_path / "pixels.npy", read=preparation.with_ours)
    store = prepare(source, tmp_path / "store", progress=False)
    bare, plain, pixels = (np.load(tmp_path / f"{way}.npy").astype(int) for way in ("bare", "plain", "pixels"))
    assert (bare == plain).all() and abs(bare - pixels).max() <= 1 and (pixels == store.images).all()


def test_preparation_is_so_many_times_as_fast():
    once = {"bare": (4.0, 9.0), "pixels": (2.0, 3.0), "plain": (5.0, 8.0), "prepare": (2.5, 2.0)}
    slow = {way: (3 * clock, 3 * used) for way, (clock, used) in once.items()}
    row = script("preparation").row_of(1, [once, slow, once])
    assert (row["bare"], row["prepare"]) == (1024 / 4, round(1024 / 2.5))
    assert (row["pixels_ratio"], row["plain_ratio"], row["bare_ratio"]) == (2.0, 2.0, 1.6)
    assert (row["processor_pixels_ratio"], row["processor_plain_ratio"]) == (3.0, 4.0)


def test_a_row_holds_medians_over_the_rounds():
    times = [((4.0, 2.0), (2.0, 1.0)), ((9.0, 3.0), (3.0, 1.0)), ((8.0, 4.0), (1.0, 2.0))]
    expected = {"way": "x", "seconds": 2.0, "ratio": 3.0, "processor_seconds": 1.0, "processor_ratio": 2.0}
    assert step.row_of("x", times) == expected


@pytest.mark.parametrize(
    ("name", "table"), [("step-128", "step"), ("loader", "loader"), ("preparation", "preparation")]
)
def test_what_is_kept_says_how_it_is_repeated(name, table):
    summary = json.loads((REFERENCE / name / "summary.json").read_text())
    assert (REPOSITORY / summary["command"].split()[1]).is_file() and summary["versions"]["torch"]
    assert len(pd.read_csv(REFERENCE / name / f"{table}.csv")) > 1
