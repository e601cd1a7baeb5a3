"""The net in a page: in a browser, from disk, it answers as PyTorch does, and a control changes what it should."""

import base64
import copy
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from alexnet_lib import (
    LocalResponseNorm,
    add_colour_noise,
    centre_crops,
    colour_shifts,
    evenly,
    fit,
    load_net,
    mean_of,
    predict,
    ten_views,
    to_input,
)
from alexnet_lib.live import page as building
from alexnet_lib.live.guide import CONTROLS, SECTIONS
from alexnet_lib.live.page import HERE, halved, live, main
from alexnet_lib.paths import NOTEBOOKS
from alexnet_lib.qualitative import hidden_features, neighbours, pixel_features
from alexnet_lib.runs.folder import data_of
from alexnet_lib.training import train
from tests.small_runs import prepare_place, settings
from tests.test_book import ARTEFACTS, BROWSER, without_browser
from tests.test_dataset import photograph

NETS = ("paper", "code2012", "owt2014")  # in the text; with a norm within maps; one column, no norm, inverted dropout
FLAGS = ("--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
# the outputs of all layers, the answer and the input, as numbers
OUTPUTS = """() => {
  const bytes = x => new Uint8Array(x.buffer, x.byteOffset, x.byteLength);
  const letters = x => bytes(x).reduce((s, b) => s + String.fromCharCode(b), "");
  return {
    outputs: Object.fromEntries(Object.entries(shown.outputs).map(([name, x]) => [name, btoa(letters(x))])),
    fields: Object.fromEntries(new FormData(form)), input: btoa(letters(shown.input)),
    now: shown.now, answers: shown.answers,
  };
}"""
FRAME = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """For each net: its record and page; each has seen a few pictures of three classes."""
    with pytest.MonkeyPatch.context() as patched:
        prepare_place(tmp_path_factory.mktemp("place"), patched)
        records = {net: train(settings(net=net, width=0.125, epochs=1, learning_rate=0.001)) for net in NETS}
        yield {net: (record, live(record)) for net, record in records.items()}


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=BROWSER, args=FLAGS)


@pytest.fixture(scope="module")
def opened(made, browser):
    """The pages in a browser without a network, and all that they complain about or ask for."""
    complaints, asked, pages = [], [], {}
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    context.grant_permissions(["camera"])
    for net, (_, path) in made.items():
        pages[net] = page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url[:60]))
        page.goto(path.as_uri())
        page.wait_for_function("sheet.complete && shown !== null")
    yield pages
    assert complaints == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked), asked


@pytest.fixture
def page(opened):
    """The page of the net in the text, untouched and on its first picture."""
    opened["paper"].bring_to_front()  # a page behind another draws one frame a second
    opened["paper"].evaluate(f"show(pictureAt(0), 0); reset([...fields]); hold(false); {FRAME}")
    return opened["paper"]


class Torch:
    """The same net in PyTorch, with the page's weights, and the first picture of the page."""

    def __init__(self, record):
        self.net, self.stores = halved(load_net(record)), data_of(record)
        self.mean = mean_of(self.stores["train"], record.config["image_size"])
        self.shown = self.stores["val"].spread(building.SHOWN)
        self.pixels = np.asarray(self.shown.images[:1])
        self.input = to_input(centre_crops(self.pixels, self.mean.shape[1]), self.mean)

    def outputs(self, x=None, net=None) -> dict[str, torch.Tensor]:
        x, found = self.input if x is None else x, {}
        with torch.no_grad():
            for name, layer in (net or self.net).named_children():
                found[name] = x = layer(x)
        return found

    def with_layers(self, make) -> nn.Sequential:
        """The net with the layers that `make` gives in place of its own, by name and layer; None leaves one."""
        net = copy.deepcopy(self.net)
        for name, layer in list(net.named_children()):
            if (other := make(name, layer)) is not None:
                setattr(net, name, other)
        return net


@pytest.fixture(scope="module")
def torchs(made):
    return {net: Torch(record) for net, (record, _) in made.items()}


def touch(page, **values) -> dict:
    """Give controls values as a reader would, and read the net in the next frame."""
    for name, value in values.items():
        page.evaluate(
            """([name, value]) => {
              const field = form.querySelector(`[name=${name}][value="${value}"]`) ?? fields[name];
              if (field.type === "radio") field.click();
              else {
                field.value = value;
                field.dispatchEvent(new Event("input", {bubbles: true}));
              }
            }""",
            [name, value],
        )
    page.evaluate(FRAME)
    return page.evaluate(OUTPUTS)


def assert_same(found: dict, expected: dict[str, torch.Tensor]) -> None:
    """All layers of the page are PyTorch's."""
    for name, x in expected.items():
        ours = torch.frombuffer(bytearray(base64.b64decode(found["outputs"][name])), dtype=torch.float32)
        torch.testing.assert_close(
            ours, x.flatten(), rtol=1e-4, atol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )


# ------------------------------------------------------------------------------------------------------ the answers


@without_browser
@pytest.mark.parametrize("net", NETS)
def test_fifty_answers_are_pytorchs(opened, torchs, net):
    """To 1e-3, with the same weights; what half precision changes is as small."""
    one = torchs[net]
    pixels = np.concatenate([one.stores["val"].images, one.stores["train"].images[:2]])
    logits = torch.tensor(
        opened[net].evaluate(
            """base64 => {
              const all = bytesOf(base64), step = size * size * 3, none = {shift: [0, 0, 0], divisor: 1};
              return Array.from({length: all.length / step}, (_, i) => Array.from(net.run(inputOf(
                all.subarray(i * step, (i + 1) * step), size, crop, mean, placesOf(0)[0], none, null))[LAST]));
            }""",
            base64.b64encode(pixels.tobytes()).decode(),
        )
    )
    x = to_input(centre_crops(pixels, one.mean.shape[1]), one.mean)
    expected = one.outputs(x)["fc8"]
    assert len(logits) == 50
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(logits.softmax(1), expected.softmax(1), rtol=0, atol=1e-5)


@without_browser
@pytest.mark.parametrize("net", NETS)
def test_every_layer_is_pytorchs(opened, torchs, net):
    assert_same(opened[net].evaluate(OUTPUTS), torchs[net].outputs())


def test_half_precision_changes_little(made):
    record, _ = made["paper"]
    stores = data_of(record)
    mean = mean_of(stores["train"], record.config["image_size"])
    exact, rounded = (predict(net, stores["val"].images, mean) for net in (load_net(record), halved(load_net(record))))
    assert 0 < (exact - rounded).abs().max() < 5e-3
    shown = (exact - rounded)[evenly(len(exact), building.SHOWN)].abs().max()
    assert f"by more than {shown:.2%}" in made["paper"][1].read_text(encoding="utf-8")


# ----------------------------------------------------------------------------------------------------- the controls


def norms(**constants):
    return lambda name, layer: LocalResponseNorm(**constants, columns=2) if name.startswith("norm") else None


def silent(column):
    """A column's half of every layer with weights is zero, but for the last layer."""

    class Silenced(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            y = self.layer(x).clone()
            half = y.shape[1] // 2
            y[:, column * half : (column + 1) * half] = 0
            return y

    return lambda name, layer: Silenced(layer) if hasattr(layer, "weight") and name != "fc8" else None


# what is touched, the first layer that may change, and the layers that PyTorch has in place of the net's
TOUCHED = {
    "k": ({"k": 5}, "norm1", norms(k=5.0)),
    "n": ({"n": 3}, "norm1", norms(n=3)),
    "alpha": ({"alpha": -1}, "norm1", norms(alpha=0.1)),
    "beta": ({"beta": 0.4}, "norm1", norms(beta=0.4)),
    "mean": ({"reading": "mean", "alpha": -1}, "norm1", norms(convention="code2012", alpha=0.1)),
    "no LRN": ({"reading": "off"}, "norm1", lambda name, _: nn.Identity() if name.startswith("norm") else None),
    "window": ({"window": 2}, "pool1", lambda name, _: nn.MaxPool2d(2, 2) if name.startswith("pool") else None),
    "tanh": ({"activation": "tanh"}, "relu1", lambda name, _: nn.Tanh() if name.startswith("relu") else None),
    "logistic": (
        {"activation": "logistic"},
        "relu1",
        lambda name, _: nn.Sigmoid() if name.startswith("relu") else None,
    ),
    "first column": ({"silent": 0}, "conv1", silent(0)),
    "second column": ({"silent": 1}, "conv1", silent(1)),
}


@without_browser
@pytest.mark.parametrize("case", TOUCHED)
def test_a_control_of_the_net_changes_its_layers_and_nothing_else(page, torchs, case):
    values, first, make = TOUCHED[case]
    before = page.evaluate(OUTPUTS)
    after = touch(page, **values)
    assert_same(after, torchs["paper"].outputs(net=torchs["paper"].with_layers(make)))
    names = list(before["outputs"])
    kept = names[: names.index(first)]
    assert [name for name in kept if after["outputs"][name] != before["outputs"][name]] == []
    assert after["outputs"][first] != before["outputs"][first] and after["input"] == before["input"]
    changed = {name for name in before["fields"] if before["fields"][name] != after["fields"][name]}
    assert changed == set(values)
    card = page.locator("fieldset.changed")
    assert card.count() == 1
    card.locator(".reset").click()
    page.evaluate(FRAME)
    assert page.evaluate(OUTPUTS) == before


@without_browser
def test_thrown_coins_silence_units_of_the_last_layers(page, torchs):
    """A throw is one of the nets of training; their average is near the halved net, which stays drawn beside it."""
    before = page.evaluate(OUTPUTS)
    page.locator("#throw").click()
    after = touch(page)
    assert after["fields"]["seed"] == "1"
    masks = {
        name: torch.tensor(
            page.evaluate(f"Array.from(coins(1, net.named.{name}.index, net.named.{name}.shape[0], 0.5))")
        )
        for name in ("drop6", "drop7")
    }
    assert all(0.4 < mask.float().mean() < 0.6 for mask in masks.values())
    assert not torch.equal(masks["drop6"], masks["drop7"])

    class Thrown(nn.Module):
        def __init__(self, mask):
            super().__init__()
            self.mask = mask

        def forward(self, x):
            return x * self.mask

    net = torchs["paper"].with_layers(lambda name, _: Thrown(masks[name]) if name in masks else None)
    assert_same(after, torchs["paper"].outputs(net=net))
    assert after["outputs"]["relu6"] == before["outputs"]["relu6"]
    page.evaluate(f"(async () => {{ for (let i = 0; i < 4; i++) {{ throwCoins(); await {FRAME}; }} }})()")
    assert page.evaluate("state.throws.length") == 5
    assert "Average of 5 thrown nets" in page.locator("#thrown").inner_text()
    page.locator("#again").click()
    page.wait_for_function("state.throws.length > 6")
    page.locator("#again").click()
    touch(page, k=3)  # another net: other throws
    assert page.evaluate("state.throws.length") == 1


@without_browser
@pytest.mark.parametrize("units", ["deviation", "printed"])
def test_colour_noise_shifts_the_picture(page, torchs, units):
    one = torchs["paper"]
    after = touch(page, units=units, axis1=2, axis2=-1, axis3=0.5)
    shifts = torch.from_numpy(colour_shifts(one.stores["train"].pca, np.array([[2.0, -1.0, 0.5]]), 0.1, units))
    pixels = centre_crops(one.pixels, one.mean.shape[1]).astype(np.float32) - one.mean.permute(1, 2, 0).numpy()
    x = torch.from_numpy(add_colour_noise(pixels, one.stores["train"].pca, units=units, shifts=shifts))
    assert_same(after, one.outputs(x.permute(0, 3, 1, 2)))


@without_browser
def test_views_are_averaged_one_by_one(page, torchs):
    one = torchs["paper"]
    views = to_input(ten_views(one.pixels, one.mean.shape[1])[0], one.mean)
    each = one.outputs(views)["fc8"].softmax(1)
    for count in (1, 4, 10):
        after = touch(page, views=count)
        torch.testing.assert_close(torch.tensor(after["answers"]), each[:count], rtol=0, atol=1e-5)
        torch.testing.assert_close(torch.tensor(after["now"]), each[:count].mean(0), rtol=0, atol=1e-5)
    assert page.locator("#crops canvas.in").count() == 10
    torch.testing.assert_close(
        torch.tensor(after["now"]), predict(one.net, one.pixels, one.mean, 10)[0], rtol=0, atol=1e-5
    )


@without_browser
def test_a_grey_square_covers_the_picture(page, torchs):
    """By its sliders, by the pointer and by the keyboard; it is what the net takes no news from."""
    one = torchs["paper"]
    after = touch(page, side=20, top=40, left=0)
    corner, border = round((one.shown.size - 20) * 0.4), (one.shown.size - one.mean.shape[1]) // 2
    x = one.input.clone()
    x[:, :, corner - border : corner - border + 20, : 20 - border] = 0
    assert_same(after, one.outputs(x))
    canvas = page.locator("#picture")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2)
    page.mouse.up()
    page.evaluate(FRAME)
    top, left, side = page.evaluate("shown.touched.square")
    assert side == 20 and abs(left + 10 - 0.7 * one.shown.size) <= 1 and abs(top + 10 - 0.5 * one.shown.size) <= 1
    canvas.focus()
    page.keyboard.press("ArrowDown")
    page.evaluate(FRAME)
    moved = page.evaluate("shown.touched.square")
    assert (moved[0] - top, moved[1] - left) == (2, 0)
    page.locator("#sweep").click()
    page.wait_for_function("document.querySelector('#heat-says').textContent.includes('at worst')")
    # the square lies on the picture; what is said of the uncovered one is of the uncovered one
    plain = one.outputs()["fc8"].softmax(1)[0]
    said = page.locator("#heat-says").inner_text()
    label = one.shown.classes[int(plain.argmax())]
    assert (
        said.startswith(f"{label}: ") and page.evaluate(f"percent({plain.max().item()})") in said.split(" uncovered")[0]
    )


@without_browser
def test_neighbours_are_those_of_the_library(page, torchs):
    """The features are kept as bytes and the pixels as WebP, so that a neighbour or two may change places."""
    one = torchs["paper"]
    known, crop = one.stores["train"].spread(building.KNOWN), one.mean.shape[1]
    sheet = np.asarray(Image.open(io.BytesIO(building.contact_sheet(known, crop))).convert("RGB"))
    kept = sheet.reshape(-1, crop, 24, crop, 3).swapaxes(1, 2).reshape(-1, crop, crop, 3)[: len(known)]
    found = {
        by: [i for _, i in (touch(page, by=by), page.evaluate("neighbours()"))[1]] for by in ("pixels", "features")
    }
    by_features = [hidden_features(one.net, images, one.mean) for images in (one.pixels, known.images)]
    by_pixels = [pixel_features(images, crop) for images in (one.pixels, kept)]
    for by, features in {"features": by_features, "pixels": by_pixels}.items():
        expected = neighbours(*features)[0].tolist()
        assert len({*expected} & {*found[by]}) >= 5 and len(found[by]) == 6, by
    names = page.locator("#near li span").all_inner_texts()
    assert names == [one.shown.classes[known.labels[i]] for i in found["features"]]


# ------------------------------------------------------------------------------------------------ pictures and units


@without_browser
def test_a_picture_of_ones_own_is_cut_as_in_section_2(page, torchs, tmp_path):
    one = torchs["paper"]
    for seed, sides in enumerate([(200, 146), (90, 300), (64, 64)]):
        file = tmp_path / f"{seed}.png"
        photograph(seed, *sides).save(file)
        page.locator("#file").set_input_files(file)
        page.wait_for_function("state.number === null && shown.picture === state.picture")
        page.wait_for_timeout(100)
        ours = np.array(page.evaluate("state.picture.join(' ')").split(), int).reshape(-1, one.shown.size, 3)
        pixels = np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1).copy()
        assert np.abs(ours - fit(torch.from_numpy(pixels), one.shown.size).numpy().astype(int)).max() <= 1
        page.evaluate("show(pictureAt(0), 0)")
    (tmp_path / "text.png").write_text("no picture")
    page.locator("#file").set_input_files(tmp_path / "text.png")
    page.wait_for_function("document.querySelector('#trouble').textContent.includes('no picture that this browser')")
    assert page.evaluate("state.number") == 0


@without_browser
def test_a_camera_is_looked_through_when_asked(page):
    page.locator("#camera").click()
    page.wait_for_function("state.number === null")
    page.locator("#camera").click()
    page.wait_for_function("document.querySelector('#video').srcObject === null")


@without_browser
def test_a_unit_is_looked_at_by_pointer_and_by_keyboard(page, torchs):
    """Its number, its field on the picture, and the kernel that makes its map."""
    page.locator(".maps").nth(3).hover(
        position={"x": 20, "y": 30}
    )  # the input, both columns of conv1, the first of conv2
    unit = page.evaluate("state.unit")
    assert unit["layer"] == "norm2" and page.locator("#layer").input_value() == "norm2"
    page.locator("#layer").select_option("conv1")
    page.locator("#map").fill("7")
    page.locator("#row").fill("3")
    page.locator("#column").fill("4")
    assert page.evaluate("state.unit") == {"layer": "conv1", "map": 6, "y": 2, "x": 3} and page.evaluate("state.held")
    value, bias = torchs["paper"].outputs()["conv1"][0, 6, 2, 3].item(), torchs["paper"].net.conv1.bias[6].item()
    said = page.locator("#formula").inner_text()
    assert page.evaluate(f"round({value})") in said and page.evaluate(f"round({bias})") in said
    assert page.evaluate("net.field('conv1', 2, 3)") == [8, 12, 18, 22]  # 11 pixels from four times the place on
    page.locator("#large").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("state.unit.x") == 4
    page.locator(".maps").nth(1).hover(position={"x": 5, "y": 5})
    assert page.evaluate("state.unit.layer") == "conv1"  # it is held
    for name in ("relu1", "norm1", "pool1", "conv2", "pool5", "fc6", "drop7", "fc8"):
        page.locator("#layer").select_option(name)
        assert page.locator(f"[data-layer={name}]").get_attribute("aria-pressed") == "true"
        assert len(page.locator("#formula").inner_text()) > 5, name


@without_browser
def test_a_field_is_where_the_gradient_comes_from(page, torchs):
    """Of each layer's central unit, for pixels that change it at all."""
    x = torch.rand(1, 3, 64, 64, requires_grad=True)
    for name in ("conv1", "pool1", "conv2", "pool2", "conv3"):
        y = x
        for layer, module in torchs["paper"].net.named_children():
            y = (
                nn.functional.avg_pool2d(y, 3, 2)
                if "pool" in layer
                else nn.functional.softplus(y)
                if "relu" in layer
                else module(y)
            )
            if layer == name:
                break
        middle = y.shape[-1] // 2
        (gradient,) = torch.autograd.grad(y[0, :, middle, middle].sum(), x)
        places = gradient.abs().sum((0, 1)).nonzero()
        reached = [*places.min(0).values.tolist(), *places.max(0).values.tolist()]
        assert page.evaluate(f"net.field('{name}', {middle}, {middle})") == reached, name


# ---------------------------------------------------------------------------------------------------- for everybody


@without_browser
def test_everything_has_a_name_and_changes_are_said_aloud(page):
    nameless = """() => [...document.querySelectorAll("input, select, button, [role=img]")].filter(e =>
      e.offsetParent !== null && !e.getAttribute("aria-label") && !e.labels?.length && !e.textContent.trim()
    ).map(e => e.outerHTML.slice(0, 80))"""
    assert page.evaluate(nameless) == []
    touch(page, silent=1)
    page.wait_for_function("document.querySelector('#said').textContent.includes('As trained')")
    assert page.locator("#touched").inner_text() == "Changed: two columns."
    page.locator("#undo").click()
    page.evaluate(FRAME)
    assert page.locator("fieldset.changed").count() == 0


# what can be touched; radio buttons, pictures and steps are described as groups
TOUCHABLE = """[...document.querySelectorAll("main input, main select, main button, main [tabindex='0']")].filter(
  e => e.checkVisibility())"""


@without_browser
@pytest.mark.parametrize("net", NETS)
def test_every_control_says_in_a_sentence_what_to_look_for_and_leads_to_its_section(opened, net):
    """In the file alone, without the book, too: there the section is one of the page."""
    page = opened[net]
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert sorted(ids) == sorted(set(ids))
    page.evaluate("select({layer: 'conv1'})")  # which has rows and columns
    touch(page, side=10)  # so that everything can be undone
    found = page.evaluate(
        f"""() => {TOUCHABLE}.map(e => {{
          const hint = e.closest("[aria-describedby]")?.getAttribute("aria-describedby") ?? "";
          const tells = $(hint)?.parentElement;
          const links = [...tells?.querySelectorAll("a") ?? []], href = links[0]?.getAttribute("href");
          return {{control: e.outerHTML.slice(0, 90), hint, says: $(hint)?.textContent, links: links.length, href,
            seen: tells?.checkVisibility() && href[0] === "#" && !!document.querySelector(href)?.checkVisibility()}};
        }})"""
    )
    page.locator("#undo").click()
    page.evaluate(FRAME)
    named = [
        {"says": CONTROLS.get(one["hint"].removeprefix("hint-"), {}).get("look"), "links": 1, "seen": True}
        for one in found
    ]
    told = [{name: one[name] for name in ("says", "links", "seen")} for one in found]
    assert [one["control"] for one, a, b in zip(found, told, named, strict=True) if a != b] == []
    without = {"code2012": set(), "paper": set(), "owt2014": {"silent", "reading", "k", "n", "alpha", "beta"}}[net]
    assert {one["hint"] for one in found} == {f"hint-{name}" for name in CONTROLS if name not in without}


@without_browser
def test_the_keyboard_reaches_every_control_and_its_link(page):
    page.evaluate("hold(false); select({layer: 'conv1'}); document.querySelector('.skip').focus()")
    wanted = page.evaluate(
        """() => [...document.querySelectorAll(".tells")].filter(e => e.checkVisibility()).flatMap(
          e => [e.id.replace("tells", "hint"), e.id])"""
    )
    reached = set()
    for _ in range(400):
        page.keyboard.press("Tab")
        at = page.evaluate(
            """() => { const e = document.activeElement; return e === document.body ? null :
              e.closest(".tells")?.id ?? e.closest("[aria-describedby]")?.getAttribute("aria-describedby") ?? ""; }"""
        )
        if at is None:
            break
        reached.add(at)
    assert len(wanted) > 60 and {*wanted} - reached == set()


@without_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_a_link_leads_to_what_the_paper_says_and_back(page, width):
    """On a phone as well, and from a file that lies alone."""
    page.set_viewport_size({"width": width, "height": 900})
    in_view = "id => { const {top} = $(id).getBoundingClientRect(); return 0 <= top && top < innerHeight - 40; }"
    page.locator("#tells-beta a").click()
    page.wait_for_function(in_view, arg="section-louder")
    said = page.locator("#section-louder").inner_text()
    assert "§3.3 · notebook 03_lrn" in said and "brightness normalisation" in said
    page.locator("#section-louder .touch a").click()
    page.wait_for_function(in_view, arg="tells-beta")
    page.evaluate("history.replaceState(null, '', location.pathname)")
    page.set_viewport_size({"width": 1280, "height": 900})


@without_browser
@pytest.mark.parametrize("width", [390, 1280, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_the_screen(page, width, scheme):
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.evaluate(FRAME)
    wide = """width => [...document.querySelectorAll("body *")].filter(e =>
      e.getBoundingClientRect().right > width + 0.5 && !e.closest(".unseen, .skip, svg")
    ).map(e => e.outerHTML.slice(0, 80))"""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(wide, width) == []
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"live-{width}-{scheme}.png", full_page=True)
    page.set_viewport_size({"width": 1280, "height": 900})


# ---------------------------------------------------------------------------------------------------------- the file


def test_nothing_in_the_page_leads_away(made):
    text = made["paper"][1].read_text(encoding="utf-8")
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert not [
        word
        for word in ("fetch(", "XMLHttpRequest", "WebSocket", "import(", '<link rel="style', " src=")
        if word in text
    ]


def test_the_guide_and_the_page_name_the_same_controls_and_sections():
    """A control has one sentence, on what to look for; a section is one of a notebook, and a control leads there."""
    text = (HERE / "page.html").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\$tells_(\w+)", text)) == sorted(CONTROLS)
    assert {control["section"] for control in CONTROLS.values()} == SECTIONS.keys()
    sentence = re.compile(r"[A-Z][^.!?]{20,160}\.")
    assert [name for name, control in CONTROLS.items() if not sentence.fullmatch(control["look"])] == []
    headings = {path.stem: path.read_text(encoding="utf-8") for path in NOTEBOOKS.glob("*.ipynb")}
    assert [s for s in SECTIONS.values() if f'"## {s["heading"]}' not in headings[s["notebook"]]] == []


def test_what_cannot_run_in_a_page_is_refused(made, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path)])
    assert ended.value.code == 2 and "no finished run in" in capsys.readouterr().err
    record, path = made["paper"]
    with pytest.raises(ValueError, match="a page runs AlexNet and its variants"):
        building.described(nn.Sequential(*[nn.GELU()]), {"net": "paper", "image_size": 64})
    monkeypatch.setattr(building, "MOST_WEIGHTS", 1000)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="weights; a page takes up to 1,000"):
        live(record)
    assert path.read_bytes() == before
