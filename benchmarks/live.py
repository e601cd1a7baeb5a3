"""The net in a page: milliseconds from a touch to the next frame, and our arithmetic beside TensorFlow.js.

    python benchmarks/live.py [--keep] [--tfjs node_modules]

In headless Chromium, from disk, with the net of notebook 07 (a short run is made where there is none). Frames: for each
control, from the event to the end of the frame that answers it, layout and painting included; by the clock, and the
processor time of the page's main thread, which says more where others are at work. Ways: milliseconds for
one picture through the net by our net.js and, where `npm install @tensorflow/tfjs @tensorflow/tfjs-backend-wasm` has
put them into a folder, by each of its back ends, with what a page would have to carry for it. Without a GPU its "webgl"
runs in software, and that row says nothing of a laptop.
"""

import argparse
import base64
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from alexnet_lib.experiments.trained import run_to_look_at
from alexnet_lib.files import write_json
from alexnet_lib.live import live
from alexnet_lib.live.page import HERE
from alexnet_lib.paths import REFERENCE
from alexnet_lib.runs.provenance import provenance
from alexnet_lib.runs.records import write_table

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ROUNDS = 24
GOAL = 100  # milliseconds
# what is touched, as a function of the round
TOUCHES = {
    "LRN, a constant": "i => set('alpha', -4 + i / 10)",
    "pooling": "i => choose('window', 2 + i % 2)",
    "activation": "i => choose('activation', ['tanh', 'relu'][i % 2])",
    "a column silenced": "i => choose('silent', ['0', '1', 'none'][i % 3])",
    "dropout, a throw": "i => $('throw').click()",
    "colour noise": "i => set('axis1', i / 10)",
    "ten views": "i => set('views', i % 2 ? 10 : 9)",
    "grey square": "i => { set('side', 16); set('left', 5 * i); }",
    "neighbours by pixels": "i => choose('by', ['pixels', 'features'][i % 2])",
    "another picture": "i => $('gallery').children[i % about.labels.length].click()",
    "a unit under the pointer": "i => $('figure').querySelectorAll('.maps')[1 + i % 14].dispatchEvent("
    "new PointerEvent('pointermove', {pointerType: 'mouse', clientX: 0, clientY: 0}))",
}
# from an event to the end of the frame that follows: its tasks, its layout, its painting
TIME = """async ([act, rounds]) => {
  const set = (name, value) => {
    fields[name].value = value;
    fields[name].dispatchEvent(new Event("input", {bubbles: true}));
  };
  const choose = (name, value) => form.querySelector(`[name=${name}][value="${value}"]`).click();
  const touch = eval(act), times = [];
  const after = () => new Promise(done => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = done;
    channel.port2.postMessage(null);
  }));
  for (let i = 0; i < rounds; i++) {
    await after();
    const began = performance.now();
    touch(i);
    await after();
    times.push(performance.now() - began);
  }
  reset([...fields]);
  await after();
  return times;
}"""
OURS = """rounds => Array.from({length: rounds}, (_, i) => {
  const x = inputOf(pictureAt(i % 24), size, crop, mean, placesOf(0)[0], {shift: [0, 0, 0], divisor: 1}, null);
  const began = performance.now();
  net.run(x);
  return performance.now() - began;
})"""
# the same net in TensorFlow.js, channels last; a layer of two columns as two convolutions
THEIRS = """async ([backend, rounds, wasm]) => {
  if (wasm) tf.wasm.setWasmPaths(wasm);
  if (!await tf.setBackend(backend)) return null;
  const began = performance.now();
  await tf.ready();
  const layers = net.layers.map(layer => {
    const own = {...layer};
    if (layer.kind === "conv") {
      const {weight, shape: [maps], before: [channels], kernel, groups} = layer;
      const kernels = tf.tensor4d(Float32Array.from(weight), [maps, channels / groups, kernel, kernel]);
      own.parts = tf.split(kernels.transpose([2, 3, 1, 0]), groups, 3);
      own.offset = tf.tensor1d(Float32Array.from(layer.bias));
    }
    if (layer.kind === "fc") {
      own.matrix = tf.tensor2d(Float32Array.from(layer.weight), [layer.shape[0], layer.before[0]]).transpose();
      own.offset = tf.tensor1d(Float32Array.from(layer.bias));
    }
    return own;
  });
  const run = x => tf.tidy(() => {
    for (const layer of layers) switch (layer.kind) {
      case "pad": {
        const more = [0, layer.shape[1] - layer.before[1]];
        x = x.pad([[0, 0], more, more, [0, 0]]);
        break;
      }
      case "conv": {
        const edge = [layer.padding, layer.padding], wide = x.pad([[0, 0], edge, edge, [0, 0]]);
        const parts = tf.split(wide, layer.groups, 3);
        x = tf.concat(parts.map((part, i) => tf.conv2d(part, layer.parts[i], layer.stride, "valid")), 3);
        x = x.add(layer.offset);
        break;
      }
      case "activation": x = x.relu(); break;
      case "norm": {
        const {columns, n, k, alpha, beta} = layer, parts = tf.split(x, columns, 3);
        x = tf.concat(parts.map(part => tf.localResponseNormalization(part, (n - 1) / 2, k, alpha, beta)), 3);
        break;
      }
      case "pool": x = tf.maxPool(x, layer.window, layer.stride, "valid"); break;
      case "flatten": x = x.transpose([0, 3, 1, 2]).reshape([1, -1]); break;
      case "fc": x = x.matMul(layer.matrix).add(layer.offset); break;
      case "drop": x = x.mul(1 - layer.p); break;
    }
    return x;
  });
  const times = [], differences = [];
  for (let i = 0; i < rounds + 3; i++) {
    const x = inputOf(pictureAt(i % 24), size, crop, mean, placesOf(0)[0], {shift: [0, 0, 0], divisor: 1}, null);
    const began = performance.now(), given = tf.tensor(x, [1, 3, crop, crop]).transpose([0, 2, 3, 1]);
    const answer = await run(given).data();
    if (i >= 3) times.push(performance.now() - began);  // the first ones compile
    const own = net.run(x)[LAST];
    differences.push(Math.max(...own.map((a, c) => Math.abs(a - answer[c]))));
  }
  return {times, difference: Math.max(...differences), start: performance.now() - began};
}"""


def frames(page) -> list[dict]:
    rows, browser = [], page.context.new_cdp_session(page)
    browser.send("Performance.enable", {"timeDomain": "threadTicks"})

    def processor_seconds() -> float:
        metrics = browser.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")

    for what, act in TOUCHES.items():
        page.evaluate(TIME, [act, 3])  # the first ones compile
        before = processor_seconds()
        times = page.evaluate(TIME, [act, ROUNDS])
        processor = 1000 * (processor_seconds() - before) / ROUNDS
        milliseconds = {"processor": processor, "fastest": min(times), "median": statistics.median(times)}
        rows.append({"touch": what} | {name: round(value, 1) for name, value in milliseconds.items()})
    return rows


def ways(page, tfjs: Path | None) -> list[dict]:
    times = page.evaluate(OURS, ROUNDS + 3)[3:]
    rows = [
        {"way": "net.js"}
        | of_times(times)
        | {"difference": 0.0, "bytes": (HERE / "net.js").stat().st_size, "packages": 0}
    ]
    if tfjs is None:
        return rows
    scope, wasm = tfjs / "@tensorflow", tfjs / "@tensorflow/tfjs-backend-wasm/dist"
    library, program = scope / "tfjs/dist/tf.es2017.min.js", wasm / "tfjs-backend-wasm-simd.wasm"
    page.add_script_tag(path=library)
    page.add_script_tag(path=wasm / "tf-backend-wasm.es2017.min.js")
    packages = sum(1 for _ in json.loads((tfjs / ".package-lock.json").read_text())["packages"])
    extra = {
        "cpu": 0,
        "webgl": 0,
        "wasm": program.stat().st_size + (wasm / "tf-backend-wasm.es2017.min.js").stat().st_size,
    }
    for backend, more in extra.items():
        binary = {name: data_url(wasm / name) for name in sorted(path.name for path in wasm.glob("*.wasm"))}
        try:
            found = page.evaluate(THEIRS, [backend, ROUNDS, binary if backend == "wasm" else None])
        except Exception as error:  # whatever a back end says where it can't start
            print(f"{backend}: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        if found is not None:
            rows.append(
                {
                    "way": f"TensorFlow.js, {backend}",
                    **of_times(found["times"]),
                    "difference": float(f"{found['difference']:.1e}"),
                    "bytes": library.stat().st_size + more,
                    "packages": packages,
                }
            )
    return rows


def of_times(times: list[float]) -> dict[str, float]:
    return {"fastest": round(min(times), 1), "median": round(statistics.median(times), 1)}


def data_url(path: Path) -> str:
    return "data:application/wasm;base64," + base64.b64encode(path.read_bytes()).decode()


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or " ").splitlines()[0])
    parser.add_argument("--tfjs", type=Path, help="a node_modules folder that holds TensorFlow.js")
    parser.add_argument("--keep", action="store_true", help="write the reference")
    given = parser.parse_args(arguments)
    if BROWSER is None:
        print("no Chromium here; Debian's package is called chromium")
        return 0
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        path = live(run_to_look_at("embedded"), Path(folder) / "live.html")
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(path.as_uri())
        page.wait_for_function("sheet.complete && shown !== null")
        timed, compared = frames(page), ways(page, given.tfjs)
        about = {"browser": f"Chromium {browser.version}", "page_megabytes": round(path.stat().st_size / 1e6, 1)}
        about["processes_at_work"] = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
        about["parameters"] = page.evaluate("about.layers.reduce((sum, layer) => sum + layer.parameters, 0)")
        browser.close()
    for row in [*timed, *compared]:
        print(", ".join(f"{name} {value}" for name, value in row.items()))
    late = [row["touch"] for row in timed if row["processor"] > GOAL]
    print(f"more than {GOAL} ms of a processor: {', '.join(late) or 'none'}")
    if given.keep:
        (REFERENCE / "live").mkdir(exist_ok=True)
        write_table(REFERENCE / "live" / "frames.csv", timed)
        write_table(REFERENCE / "live" / "ways.csv", compared)
        command = "python benchmarks/live.py --keep" + (" --tfjs node_modules" if given.tfjs else "")
        write_json(REFERENCE / "live" / "summary.json", {"command": command} | about | provenance())
    return 0


if __name__ == "__main__":
    sys.exit(main())
