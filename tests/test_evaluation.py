"""§2 and §6: error rates by hand, ties as in 2012, one view and ten."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from alexnet_lib import evaluation, top_k_error
from alexnet_lib.augmentation import Views, cut_views
from alexnet_lib.distortions import many_views
from alexnet_lib.evaluation import (
    answers,
    as_labels,
    evaluate,
    input_at_once,
    mean_of,
    onto,
    predict,
    rank_credit,
    to_input,
)
from alexnet_lib.runs import stopping
from alexnet_lib.runs.job import Job


def test_top_1_and_top_5_by_hand():
    scores = torch.tensor([[9, 8, 7, 6, 5, 4, 3.0]] * 4)
    errors = top_k_error(scores, torch.tensor([0, 4, 5, 6]))
    assert errors == {1: 0.75, 5: 0.5}


def test_ties_get_a_fraction():
    assert top_k_error(torch.zeros(1, 10), torch.tensor([3])) == {
        1: pytest.approx(0.9),
        5: pytest.approx(0.5),
    }
    assert top_k_error(torch.tensor([[2.0, 1, 1, 0]]), torch.tensor([1]), ks=(2,)) == {2: 0.5}


def test_a_label_below_the_tie_gets_nothing():
    assert top_k_error(torch.tensor([[1.0, 1, 0]]), torch.tensor([2]), ks=(1, 2, 3)) == {1: 1, 2: 1, 3: 0}


def test_arrays_and_fewer_classes_than_k():
    assert top_k_error(np.array([[0.1, 0.9]]), np.array([0])) == {1: 1.0, 5: 0.0}


@pytest.mark.parametrize("k", [0, -3, 1.5, 5.0, "1", None])
def test_places_that_are_no_whole_numbers_are_refused(k):
    with pytest.raises(ValueError, match=f"ks hold {k!r}; accepted are whole numbers above 0"):
        top_k_error(torch.zeros(1, 3), torch.tensor([0]), ks=(1, k))
    assert top_k_error(torch.eye(3), torch.tensor([0, 1, 1]), ks=iter(np.array([1, 2]))).keys() == {1, 2}


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(3), r"scores \(2, 3\) and labels \(3,\)"),
        (torch.zeros(0, 3), torch.zeros(0), r"scores \(0, 3\)"),
        (torch.full((1, 3), torch.nan), torch.zeros(1, dtype=int), "NaN"),
        (torch.tensor([[0.5, torch.nan, 0.1]]), torch.tensor([0]), "NaN"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), "labels hold 3; accepted are the classes 0 to 2"),
        (torch.zeros(1, 3), torch.tensor([-1]), "labels hold -1"),
        (torch.zeros(1, 3), torch.tensor([-100]), "labels hold -100"),
        (torch.zeros(1, 3), torch.tensor([255], dtype=torch.uint8), "labels hold 255"),
        (torch.zeros(1, 3), torch.tensor([1.0]), "labels are torch.float32"),
    ],
)
@pytest.mark.parametrize(
    "score", [top_k_error, lambda scores, labels: rank_credit(scores, as_labels(scores, labels), 1)]
)
def test_what_cannot_be_scored_is_refused(scores, labels, message, score):
    if score is top_k_error or len(scores):  # no images have no error rate, but credit
        with pytest.raises(ValueError, match=message):
            score(scores, labels)


@pytest.mark.parametrize("kind", ["uint8", "int8", "int32", "uint16", "int64"])
def test_labels_may_be_whole_numbers_of_any_kind(kind):
    assert top_k_error(np.eye(3), np.array([0, 1, 0], kind))[1] == pytest.approx(1 / 3)


class Brightest(torch.nn.Module):
    """Class 0 for a bright view, class 1 for a dark one; it has a parameter so that it has a device."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.01))

    def forward(self, x):
        light = x.mean((1, 2, 3)) * self.scale
        return torch.stack([light, -light], 1)


class Counts(Brightest):
    """Notes how many views are in each batch."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, x):
        self.batches.append(len(x))
        return super().forward(x)


def test_ten_views_average_probabilities_not_logits():
    images = np.zeros((1, 6, 6, 3), np.uint8)
    images[0, :3, :3] = 255  # one corner is bright, and four of the nine pixels in the centre
    mean = torch.zeros(3, 3, 3)
    one, ten = (predict(Brightest(), images, mean, views) for views in (1, 10))
    logits = torch.tensor([2.55, 0, 0, 0, 2.55 * 4 / 9]).repeat(2)
    expected = torch.sigmoid(2 * logits).mean().item()
    assert ten[0, 0].item() == pytest.approx(expected, abs=1e-4)
    assert one[0, 0].item() == pytest.approx(torch.sigmoid(2 * logits[4]).item(), abs=1e-4)
    with pytest.raises(ValueError, match="views = 5; accepted are 1, 9, 10 and 144"):
        predict(Brightest(), images, mean, 5)


def test_the_mean_of_logits_is_that_of_the_views_before_the_softmax():
    images = np.zeros((1, 6, 6, 3), np.uint8)
    images[0, :3, :3] = 255
    found = predict(Brightest(), images, torch.zeros(3, 3, 3), 10, average="logits")
    light = 2.55 * (1 + 4 / 9) / 5  # of the five views, on average
    assert found.tolist() == [[pytest.approx(torch.tensor(2 * x).sigmoid().item(), abs=1e-4) for x in (light, -light)]]
    with pytest.raises(ValueError, match="average = 'votes'; accepted are probabilities, logits"):
        predict(Brightest(), images, torch.zeros(3, 3, 3), average="votes")


@pytest.mark.parametrize("divisor", [1.0, 2.0, 50.0])
def test_pixels_are_divided_once_the_mean_is_taken_off(divisor):
    images, mean = np.full((1, 3, 3, 3), 110, np.uint8), torch.full((3, 3, 3), 10.0)
    found = predict(Brightest(), images, mean, divisor=divisor)[0, 0]
    assert found.item() == pytest.approx(torch.tensor(2 * (110 - 10) / divisor * 0.01).sigmoid().item(), abs=1e-6)


def test_no_images_have_no_answers():
    none, mean = np.zeros((0, 6, 6, 3), np.uint8), torch.zeros(3, 3, 3)
    for images, views in ((none, 1), (none, 144), (torch.from_numpy(none), 10)):
        assert predict(Brightest(), images, mean, views).shape == (0, 2)


def test_a_batch_counts_views_and_the_images_that_are_done_are_told():
    net, done = Counts(), []
    answers(net, np.zeros((5, 6, 6, 3), np.uint8), torch.zeros(3, 3, 3), (10,), batch_size=20, look=done.append)
    assert net.batches == [20, 20, 10] and done == [0, 2, 4]


@pytest.mark.parametrize("labels", [[0, 2], [-1, 0], [0.0, 1.0]])
def test_a_store_whose_labels_are_no_classes_is_not_scored(labels):
    with pytest.raises(ValueError, match="labels (hold|are) "):
        evaluate(Brightest(), Few(labels), torch.zeros(3, 3, 3))


class Few:
    """A store of black pictures."""

    folder = Path("of no use without a card")

    def __init__(self, labels):
        self.labels, self.images = np.array(labels), np.zeros((len(labels), 6, 6, 3), np.uint8)

    def __len__(self):
        return len(self.labels)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_net_that_is_no_numbers_is_not_scored_and_keeps_its_mode(value):
    net = torch.nn.Sequential(Brightest(), torch.nn.Dropout().eval()).train()
    net[1].eval()
    assert evaluate(net, Few([0, 1]), torch.zeros(3, 3, 3))["top1"] == 0.5
    assert net.training and net[0].training and not net[1].training
    net[0].scale.data.fill_(value)
    with pytest.raises(ValueError, match="the net's answers hold NaN"):
        evaluate(net, Few([0, 1]), torch.zeros(3, 3, 3))
    assert net.training and not net[1].training


def test_a_net_answers_without_dropout_in_whatever_mode_it_is():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.9), torch.nn.Linear(27, 3)).train()
    images, mean = np.full((2, 6, 6, 3), 2, np.uint8), torch.zeros(3, 3, 3)
    expected = (2 * net[2].weight.sum(1) + net[2].bias).softmax(0)
    torch.testing.assert_close(predict(net, images, mean), expected.detach().expand(2, 3))
    assert net.training and net[1].training


def test_the_errors_of_a_store_are_those_of_its_predictions():
    """Of ten classes the net prefers the last ones, so labels of the fifth and sixth place tell five from six."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(27, 10))
    net[1].weight.data.zero_()
    net[1].bias.data.copy_(torch.arange(10.0))
    store, mean = Few([9, 5, 4, 0]), torch.zeros(3, 3, 3)
    found = evaluate(net, store, mean)
    errors = top_k_error(predict(net, store.images, mean), store.labels)
    assert (found["top1"], found["top5"]) == (errors[1], errors[5]) == (0.75, 0.5)
    expected = torch.arange(10.0).log_softmax(0)[[9, 5, 4, 0]].mean()
    assert found["loss"] == pytest.approx(-expected.item(), rel=1e-5)


def test_input_is_pixels_less_the_centre_of_the_mean_image():
    class Kept:
        mean = np.arange(6 * 6 * 3, dtype=np.float32).reshape(6, 6, 3)

    mean = mean_of(Kept, 4)
    x = to_input(np.full((2, 4, 4, 3), 100, np.uint8), mean)
    assert x.shape == (2, 3, 4, 4) and x.dtype == torch.float32
    assert x[1, 2, 0, 3].item() == 100 - Kept.mean[1, 4, 2]


def test_several_numbers_of_views_come_from_one_reading_and_are_the_same_bits():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (37, 6, 6, 3), dtype=torch.uint8, generator=generator).numpy()

    class Counted:
        """Pictures that count how often each is read."""

        shape, read = pixels.shape, np.zeros(len(pixels), int)

        def __len__(self):
            return len(pixels)

        def __getitem__(self, rows):
            self.read[rows] += 1
            return pixels[rows]

    mean, images = torch.full((3, 3, 3), 100.0), Counted()
    together = answers(Brightest(), images, mean, (1, 9, 10), batch_size=20)
    assert images.read.tolist() == [1] * 37
    for views, found in together.items():
        assert torch.equal(found, predict(Brightest(), pixels, mean, views, batch_size=20))


def test_in_bfloat16_it_answers_a_little_differently():
    images = np.arange(108, dtype=np.uint8).reshape(1, 6, 6, 3)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(27, 3))
    one, other = (answers(net, images, torch.zeros(3, 3, 3), (1,), bf16=bf16)[1] for bf16 in (False, True))
    assert other.dtype == torch.float32 and not torch.equal(one, other)
    torch.testing.assert_close(one, other, rtol=0.1, atol=0.02)


def test_a_cpu_finishes_sixteen_images_at_a_time_while_they_are_in_its_cache():
    """Here what finishes them writes down which they are."""
    parts = []

    def finish(pixels, part):
        parts.append((part.start, part.stop, len(pixels)))
        pixels += torch.arange(part.start, part.start + len(pixels))[:, None, None, None]

    x = to_input(np.full((37, 2, 2, 3), 9, np.uint8), torch.full((3, 2, 2), 4.0), finish=finish)
    assert parts == [(0, 16, 16), (16, 32, 16), (32, 48, 5)]
    assert torch.equal(x, (5.0 + torch.arange(37))[:, None, None, None].expand(37, 3, 2, 2))


def test_without_a_number_of_its_own_a_batch_has_128_views():
    net, images, mean = Counts(), np.zeros((140, 3, 3, 3), np.uint8), torch.zeros(3, 3, 3)
    predict(net, images, mean)
    for views in (1, 10):
        answers(net, images, mean, (views,))
    assert net.batches == [128, 12, 128, 12] + [120] * 11 + [80]


def test_the_144_views_of_an_image_are_averaged_too():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), np.uint8)
    found = predict(Brightest(), pixels, torch.zeros(3, 24, 24), 144)
    with torch.no_grad():
        each = [Brightest()(to_input(many_views(image, 24), torch.zeros(3, 24, 24))).softmax(1) for image in pixels]
    torch.testing.assert_close(found, torch.stack([views.mean(0) for views in each]))


def test_the_memory_of_one_batch_is_kept_for_the_next(monkeypatch):
    """What `keep_memory` does is in test_launch.py."""
    kept = []
    monkeypatch.setattr(evaluation, "keep_memory", lambda: kept.append(True))
    predict(Brightest(), np.zeros((1, 3, 3, 3), np.uint8), torch.zeros(3, 3, 3))
    assert kept == [True]


def test_a_copy_to_a_gpu_is_made_from_pinned_memory_and_another_is_not(monkeypatch):
    """Only what lies there can be copied while the program goes on."""
    told = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: told.append("pinned") or x)
    monkeypatch.setattr(torch.Tensor, "to", lambda x, device, non_blocking: told.append((device, non_blocking)) or x)
    for device in ("cpu", "cuda:1", torch.device("cuda")):
        onto(torch.zeros(1), device)
    onto(torch.zeros(1, device="meta"), "cuda")
    assert told == [("cpu", True), "pinned", ("cuda:1", True), "pinned", (torch.device("cuda"), True), ("cuda", True)]


@pytest.mark.parametrize("shifts", [None, torch.arange(6.0).reshape(2, 3)])
def test_the_one_pass_of_a_gpu_is_given_places_mean_and_colours(monkeypatch, shifts):
    """Its kernel, which stands in test_fast.py, needs Triton."""
    given = []
    kernels = SimpleNamespace(cut=lambda *arguments: given.extend(arguments))
    monkeypatch.setitem(sys.modules, "alexnet_lib.runs.kernels", kernels)
    images, mean = torch.zeros(3, 9, 9, 3, dtype=torch.uint8), torch.ones(3, 4, 4)
    views = Views(np.array([1, 2]), np.array([3, 4]), np.array([False, True]))
    input_at_once(images, [2, 0], views, mean, shifts, **({} if shifts is None else {"noise": 5.0, "divisor": 6.0}))
    assert given[0] is images and given[2] is mean
    assert given[1].tolist() == [[2, 0], [1, 2], [3, 4], [0, 1]]
    assert torch.equal(given[3], torch.zeros(2, 3) if shifts is None else shifts)
    assert given[4:] == ([1.0, 1.0] if shifts is None else [5.0, 6.0])


@pytest.mark.parametrize("views", [1, 9, 10])
def test_whole_pictures_that_lie_on_a_gpu_are_cut_there_in_one_pass(monkeypatch, views):
    """With a kernel that does the same on the CPU, and pictures that are not square."""
    given = []

    def cut(images, places, mean, shifts, noise, divisor):
        given.append(places.shape[1])
        row, top, left, mirrored = places.numpy()
        crops = cut_views(images.numpy(), Views(top, left, mirrored == 1), mean.shape[1], row)
        return to_input(crops, mean) / divisor

    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 9, 14, 3), np.uint8))
    arguments = Brightest(), images, torch.full((3, 4, 4), 90.0), views, 128, "logits", 16.0
    expected = predict(*arguments)
    monkeypatch.setattr(evaluation, "cuts_at_once", lambda device: True)
    monkeypatch.setitem(sys.modules, "alexnet_lib.runs.kernels", SimpleNamespace(cut=cut))
    torch.testing.assert_close(predict(*arguments), expected)
    assert given == [3 * views]


@pytest.mark.parametrize(("replica", "images"), [(0, 128), (1, 129)])
def test_processes_that_share_a_store_look_equally_often_whether_to_stop(replica, images):
    """Who has an image more has a batch more, before which it must not wait for the others."""

    class Looks(Job):
        count = 0

        def as_leader_says(self, value):
            Looks.count += 1
            return value

        def sum(self, values):
            return values

    job, store = Looks(replicas=2, replica=replica), Few(np.arange(257) % 2)
    assert len(range(257)[job.share(257)]) == images
    evaluate(Brightest(), store, torch.zeros(3, 3, 3), job=job)
    assert Looks.count == 1


def test_a_signal_ends_an_evaluation_before_its_next_batch(monkeypatch):
    monkeypatch.setattr(stopping, "asked", ["SIGTERM"])
    with pytest.raises(stopping.Stopped, match="stopped by SIGTERM"):
        evaluate(Brightest(), Few([0]), torch.zeros(3, 3, 3))
