"""Measurements of a net before training: when batches are made and steps taken, and what augmentation costs."""

import pandas as pd
import pytest

from alexnet_lib.runs.settings import resolve
from alexnet_lib.study.probes import augmentation_share, batch_seconds, hidden_share, random_store, timeline
from alexnet_lib.training import build_net
from tests.small_runs import settings


@pytest.mark.parametrize(("in_thread", "images"), [(False, 60), (True, 60), (False, 7), (True, 7)])
def test_a_timeline_has_every_step_and_its_batch(in_thread, images):
    """Of the smaller collection an epoch has two batches only."""
    store = random_store(images, 73, classes=3)
    run = resolve(settings(batch_size=6), store)
    spans = timeline(run, build_net(run, 3), store, steps=3, in_thread=in_thread)
    assert (spans["what"] == "step").sum() == 3 and (spans["end"] >= spans["start"]).all()
    if not in_thread:
        assert spans["what"].tolist() == ["batch", "step"] * 3 and (spans["start"] >= 0).all()
        assert hidden_share(spans) == 0
    assert batch_seconds(run, store, "none", 2) > 0


def test_the_hidden_share_is_the_overlap():
    rows = [("batch", 0, 1), ("step", 0.5, 3), ("batch", 2, 4), ("step", 3, 3.5)]
    assert hidden_share(pd.DataFrame(rows, columns=["what", "start", "end"])) == pytest.approx((0.5 + 1.5) / 2.5)


def test_what_was_made_before_the_first_step_had_ended_does_not_count():
    rows = [("batch", -1.5, 0.5), ("step", 0, 1.5), ("batch", 0.5, 1.0), ("batch", 1.0, 2.0)]
    assert hidden_share(pd.DataFrame(rows, columns=["what", "start", "end"])) == 1


def test_the_share_of_a_step_is_the_worst_measured(tmp_path):
    (tmp_path / "cost.csv").write_text("threads,step,all\n1,10,0.1\n2,4,0.1\n")
    assert augmentation_share(tmp_path / "cost.csv") == pytest.approx(2.5)
