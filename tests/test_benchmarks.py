"""The benchmarks compare like with like, and what they keep is what README and the notebooks say."""

import importlib.util
import json
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

from alexnet_lib import LocalResponseNorm, normalization, prepare, qualitative
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


def test_a_search_is_so_many_times_as_fast(monkeypatch):
    search = script("search")
    taken = [{0: 4.0, 64: 1.0}, {0: 9.0, 64: 3.0}, {0: 8.0, 64: 1.0}]
    assert search.row_of(64, taken) == {"bits": 64, "numbers": 8.0, "codes": 1.0, "times": 4.0}
    seen = []
    monkeypatch.setattr(qualitative, "hamming_neighbours", lambda asked, known: seen.append(known))
    rows = search.measured(known=300, queries=4, rounds=1)
    assert {(known.dtype.name, known.shape[1] * 64) for known in seen} == {("uint64", bits) for bits in search.BITS}
    assert [row["bits"] for row in rows] == [64, 256] and all(row["numbers"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("step-128", "step"),
        ("loader", "loader"),
        ("preparation", "preparation"),
        ("live", "frames"),
        ("live", "ways"),
        ("search-speed", "seconds"),
    ],
)
def test_what_is_kept_says_how_it_is_repeated(name, table):
    summary = json.loads((REFERENCE / name / "summary.json").read_text())
    assert (REPOSITORY / summary["command"].split()[1]).is_file() and summary["versions"]["torch"]
    assert len(pd.read_csv(REFERENCE / name / f"{table}.csv")) > 1


def test_the_live_page_answers_within_a_tenth_of_a_second():
    """As kept: the processor time of each kind of touch; and all ways through the net give the same answers."""
    frames = pd.read_csv(REFERENCE / "live" / "frames.csv").set_index("touch")
    assert set(frames.index) == set(script("live").TOUCHES) and frames["processor"].max() < script("live").GOAL
    ways = pd.read_csv(REFERENCE / "live" / "ways.csv").set_index("way")
    assert len(ways) > 1 and ways["difference"].max() < 1e-3 and ways["bytes"].idxmin() == "net.js"


# ------------------------------------------------------------------------------------------------------ on a GPU


@pytest.fixture
def gpu(monkeypatch):
    """The script for a GPU, with nothing to compile."""
    monkeypatch.setattr(normalization, "_compiled_functions", lambda *_: None)
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    yield script("gpu")
    sys.modules.pop("step", None)


def test_the_script_for_a_gpu_runs_to_its_end(gpu, tmp_path, capsys):
    """All that is left for a card to find is numbers."""
    assert gpu.main(["--small", "--device", "cpu", "--into", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    records = {part.__name__: json.loads((tmp_path / f"{part.__name__}.json").read_text()) for part in gpu.PARTS}
    assert [record["traceback"] for record in records.values()] == [""] * len(gpu.PARTS)
    assert all(record["rows"] and record["small"] and record["versions"]["torch"] for record in records.values())
    for name in ("equality", "repeatability", "training", "two_devices"):
        judged = [row for row in records[name]["rows"] if row["goal"] != gpu.NOTHING]
        assert judged and {row["verdict"] for row in judged} == {"reached"}, judged
    rows = sum(len(record["rows"]) for record in records.values())
    assert printed[-rows - 1].split() == ["part", "what", "found", "goal", "verdict"]
    assert [line.split()[0] for line in printed[-rows:]] == [n for n, r in records.items() for _ in r["rows"]]


def test_a_part_that_fails_does_not_end_the_others(gpu, tmp_path, monkeypatch, capsys):
    def fails(place, folder):
        raise ValueError("labels from 0 to 1023\nare not among 1000 classes")

    def fails_late(place, folder):
        yield gpu.row("what was found before", 7)
        fails(place, folder)

    def works(place, folder):
        return [gpu.row("a rate", 3.14159, 4), gpu.row("another", 5.0, 4), gpu.row("nothing to reach", 1)]

    monkeypatch.setattr(gpu, "PARTS", (fails_late, fails, works))
    gpu.main(["--small", "--device", "cpu", "--into", str(tmp_path)])
    failed = json.loads((tmp_path / "fails.json").read_text())
    assert "Traceback" in failed["traceback"] and failed["rows"][0]["verdict"] == "missed"
    table = capsys.readouterr().out.splitlines()[-6:]
    assert "what was found before" in table[0]
    assert all("ValueError: labels from 0 to 1023" in line for line in table[1:3])
    assert [line.split()[-1] for line in table[3:5]] == ["missed", "reached"] and "3.142" in table[3]


def test_when_the_time_is_up_what_was_found_is_kept(gpu, tmp_path, monkeypatch, capsys):
    def lasts(place, folder):
        yield gpu.row("what was found before", 7)
        try:
            time.sleep(60)
        except Exception:  # as many do around what may not work
            yield gpu.row("caught", 1)

    def comes_too_late(place, folder):
        return [gpu.row("measured nevertheless", 1)]

    monkeypatch.setattr(gpu, "PARTS", (lasts, comes_too_late))
    monkeypatch.setattr(gpu, "MINUTES", (gpu.SPARE + 1) / 60)
    gpu.main(["--small", "--device", "cpu", "--into", str(tmp_path)])
    rows = json.loads((tmp_path / "lasts.json").read_text())["rows"]
    assert [(row["what"], row["found"]) for row in rows] == [("what was found before", 7), ("lasts", "no time left")]
    said = capsys.readouterr().out
    assert said.count("no time left") == 2 and "measured nevertheless" not in said


def test_what_does_not_fit_on_a_gpu_leaves_the_rest(gpu, monkeypatch, tmp_path):
    def rate(self, step, batch):
        if batch == 9:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1000.0 * batch

    monkeypatch.setattr(gpu.Place, "rate", rate)
    monkeypatch.setattr(gpu.Place, "batches", (8, 9))
    rows = list(gpu.step_rates(gpu.Place("cpu", True, 0.0), tmp_path))
    found = {row["what"]: row["found"] for row in rows}
    assert found["paper, fast, batch 8"] == 8000.0 and found["code2012, plain, batch 9"] == "no room on this GPU"
    assert len(rows) == 10 and "paper / torchvision's net without LRN" not in found


def test_without_a_gpu_the_script_says_so(gpu, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as exit_:
        gpu.main(["--device", "cpu"])
    assert exit_.value.code == 2 and "--small shows on a CPU that the script works" in capsys.readouterr().err
