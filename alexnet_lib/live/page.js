// What happens when something is touched: read the controls, run the net, draw everything anew.

const about = JSON.parse($("about").textContent), {size, crop, classes} = about, BORDER = size - crop;
const stored = id => $(id).textContent;
const net = new Net(about.layers, halvesOf(stored("weights")), crop), mean = floatsOf(stored("mean"));
const pictures = bytesOf(stored("pictures")), features = new Int8Array(bytesOf(stored("features")).buffer);
const scales = floatsOf(stored("scales")), sheet = new Image();
const form = $("touch"), fields = form.elements, LAST = net.layers.at(-1).name;
const HIDDEN = net.layers.filter(layer => layer.kind === "activation").at(-1).name;
const pictureAt = i => pictures.subarray(i * size * size * 3, (i + 1) * size * size * 3);
const GREY = [0, 1, 2].map(c => mean.subarray(c * crop * crop, (c + 1) * crop * crop).reduce((a, b) => a + b) / crop / crop);
// Everything that is neither a control of the form nor computed from one.
const state = {picture: pictureAt(0), number: 0, label: about.labels[0], unit: null, held: false, throws: [], of: "", wired: null};
let shown = null;  // what `compute` gave last

// --------------------------------------------------------------------------------------------- what the controls say

const isChanged = field => field.type === "radio" ? field.checked !== field.defaultChecked : field.name && field.value !== field.defaultValue;
const chosen = name => fields[name]?.value;
const asTrained = name => [...form.querySelectorAll(`[name=${name}]`)].every(field => !isChanged(field));

function settings() {
  const number = name => Number(chosen(name)), off = {reading: "sum", n: 1, k: 1, alpha: 0, beta: 0};
  const constants = {reading: chosen("reading"), n: number("n"), k: number("k"), alpha: 10 ** number("alpha"), beta: number("beta")};
  const alphas = ["axis1", "axis2", "axis3"].map(name => number(name) / 10), side = number("side");
  const place = name => Math.round(number(name) / 100 * (size - side));
  return {
    changes: {
      norm: ["reading", "n", "k", "alpha", "beta"].every(asTrained) ? null : constants.reading === "off" ? off : constants,
      window: asTrained("window") ? null : number("window"),
      activation: asTrained("activation") ? null : chosen("activation"),
      silent: chosen("silent") === "none" ? null : number("silent"),
      seed: number("seed") || null,
    },
    noise: {shift: colourShift(alphas, about, chosen("units")), divisor: 1},
    square: side ? [place("top"), place("left"), side] : null,
    views: number("views"),
  };
}

// The crops that are averaged: the centre, or the first of the ten views, as [top, left, mirrored].
function placesOf(views) {
  const places = views ? about.views.slice(0, views) : [[0.5, 0.5, false]];
  return places.map(([top, left, mirrored]) => [Math.floor(top * BORDER), Math.floor(left * BORDER), mirrored]);
}

// The outputs that stay as they are: all before the first layer that is changed.
function unchanged(outputs, {norm, window: side, activation, silent, seed}) {
  const differs = {norm: norm, pool: side, activation, drop: seed};
  const first = net.layers.findIndex(layer => differs[layer.kind] || (silent !== null && layer.kind !== "pad"));
  return Object.fromEntries(net.layers.slice(0, first < 0 ? undefined : first).map(layer => [layer.name, outputs[layer.name]]));
}

// Run the net as it was trained and as it is now, on the picture as it is now. Of views that were there already the
// answers are kept, so that one more view costs one more run.
function compute(touched = settings()) {
  const {changes, noise, square, views} = touched, places = placesOf(views), input = place => inputOf(
    state.picture, size, crop, mean, place, noise, square);
  if (shown?.picture !== state.picture) {
    const plain = net.run(inputOf(state.picture, size, crop, mean, placesOf(0)[0], {shift: [0, 0, 0], divisor: 1}, null));
    shown = {picture: state.picture, plain, trained: net.probabilities(plain)};
  }
  const same = !views && !square && noise.shift.every(level => level === 0), of = JSON.stringify([changes, noise, square, !views]);
  if (shown.of !== of) Object.assign(shown, {of, kept: []});
  const x = input(places.at(-1)), outputs = net.run(x, changes, same ? unchanged(shown.plain, changes) : {});
  const answers = places.map((place, i) => shown.kept[i] ??= net.probabilities(
    i === places.length - 1 ? outputs : net.run(input(place), changes)));
  const now = classes.map((_, c) => answers.reduce((sum, p) => sum + p[c], 0) / answers.length);
  return Object.assign(shown, {touched, places, answers, input: x, outputs, now});
}

const best = probabilities => probabilities.map((p, c) => [p, c]).sort((a, b) => b[0] - a[0]);

// ------------------------------------------------------------------------------------------------------- the picture

// The picture as the net sees it, its colours shifted: size × size × 3 bytes.
function recoloured({shift}) {
  return Uint8ClampedArray.from(state.picture, (level, i) => level + shift[i % 3]);
}

function drawPicture() {
  const {touched: {noise, square, changes}, places} = shown, canvas = $("picture"), context = canvas.getContext("2d");
  const zoom = canvas.width / size, [top, left, mirrored] = places.at(-1);
  context.imageSmoothingEnabled = false;
  context.drawImage(onCanvas(imageOf(recoloured(noise), size)), 0, 0, canvas.width, canvas.height);
  if (square) {
    context.fillStyle = `rgb(${GREY})`;
    context.fillRect(square[1] * zoom, square[0] * zoom, square[2] * zoom, square[2] * zoom);
  }
  context.fillStyle = "#0009";  // all but the crop
  const around = new Path2D();
  around.rect(0, 0, canvas.width, canvas.height);
  around.rect(left * zoom, top * zoom, crop * zoom, crop * zoom);
  context.fill(around, "evenodd");
  const {layer, y, x} = state.unit, field = net.field(layer, y, x, changes);
  const from = mirrored ? crop - 1 - field[3] : field[1];
  const box = [(left + from) * zoom, (top + field[0]) * zoom, (field[3] - field[1] + 1) * zoom, (field[2] - field[0] + 1) * zoom];
  for (const [width, colour] of [[7, "#000a"], [4, "#ffd34d"]]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.strokeRect(...box.map((side, i) => i < 2 ? Math.max(3, Math.min(canvas.width - 3, side)) : Math.min(side, canvas.width - 3 - box[i - 2])));
  }
  const named = state.label === null ? "your picture" : classes[state.label];
  $("caption").textContent = named;
  canvas.setAttribute("aria-label", `The picture, ${named}. The unit sees rows ${field[0] + 1} to ${field[2] + 1} and columns ${
    field[1] + 1} to ${field[3] + 1} of ${crop}. Arrow keys move a grey square.`);
  canvas.classList.toggle("draggable", !!square);
}

function show(picture, number = null) {
  Object.assign(state, {picture, number, label: number === null ? null : about.labels[number]});
  [...$("gallery").children].forEach((button, i) => button.setAttribute("aria-pressed", i === number));
  if (number !== null) $("original").hidden = true;
  $("trouble").textContent = "";
  update();
}

// A picture of the reader's, cut to size, and a small one that shows where.
function take(source, width, height) {
  const most = Math.min(1, 3000 / Math.max(width, height)), canvas = make("canvas", {width: Math.round(width * most), height: Math.round(height * most)});
  const context = canvas.getContext("2d", {willReadFrequently: true}), small = $("original");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
  Object.assign(small, {hidden: false, width: Math.round(96 * Math.min(1, width / height)), height: Math.round(96 * Math.min(1, height / width))});
  const drawing = small.getContext("2d"), side = Math.min(small.width, small.height);
  drawing.drawImage(canvas, 0, 0, small.width, small.height);
  drawing.strokeStyle = "#ffd34d";
  drawing.lineWidth = 2;
  drawing.strokeRect((small.width - side) / 2 + 1, (small.height - side) / 2 + 1, side - 2, side - 2);
  small.setAttribute("aria-label", `Your picture, ${width} × ${height}, and the square that is kept`);
  show(fit(data, canvas.width, canvas.height, size));
}

async function open(file) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (bitmap) take(bitmap, bitmap.width, bitmap.height);
  else $("trouble").textContent = `${file.name} is no picture that this browser can read; JPEG, PNG and WebP are.`;
}

// The camera is asked for when the button is pressed, and let go when it is pressed again.
async function camera() {
  const button = $("camera"), video = $("video");
  if (video.srcObject) {
    video.srcObject.getTracks().forEach(track => track.stop());
    video.srcObject = null;
    return button.setAttribute("aria-pressed", false);
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}});
  } catch {
    $("trouble").textContent = "There is no camera that this page may use; a picture from a file works as well.";
    return;
  }
  await video.play();
  button.setAttribute("aria-pressed", true);
  const look = () => {
    if (!video.srcObject) return;
    if (video.videoWidth) take(video, video.videoWidth, video.videoHeight);
    setTimeout(() => requestAnimationFrame(look), 80);
  };
  look();
}

// -------------------------------------------------------------------------------------------------------- the answer

const lines = Array.from({length: Math.min(5, classes.length)}, () => {
  const line = make("li"), bar = make("span", {class: "bar"}, make("i"), make("b", {title: "as trained"}));
  line.append(make("span", {class: "name"}), make("span", {class: "percent"}), bar);
  $("answers").append(line);
  return line;
});
let saying;

function drawAnswers() {
  const {now, trained} = shown, ranked = best(now);
  lines.forEach((line, i) => {
    const [p, c] = ranked[i];
    line.classList.toggle("true", c === state.label);
    line.querySelector(".name").textContent = classes[c];
    line.querySelector(".percent").textContent = percent(p);
    line.querySelector("i").style.width = `${100 * p}%`;
    line.querySelector("b").style.left = `min(${100 * trained[c]}%, 100% - 2px)`;
  });
  const cards = [...form.querySelectorAll("fieldset")].filter(card => {
    const changed = [...card.elements].some(isChanged);
    card.classList.toggle("changed", changed);
    card.querySelector(".reset").hidden = !changed;
    return changed;
  });
  const names = cards.map(card => card.querySelector("legend").firstChild.textContent.trim().toLowerCase());
  $("touched").textContent = names.length ? `Changed: ${names.join(", ")}.` : "";
  $("undo").hidden = $("tells-undo").hidden = !names.length;
  const [p, c] = ranked[0], peek = $("peek");
  peek.replaceChildren(make("span", {}, classes[c]), make("span", {}, percent(p)));
  peek.style.setProperty("--part", `${100 * p}%`);
  peek.style.setProperty("--bar", c === state.label ? "var(--red)" : "var(--blue)");
  clearTimeout(saying);  // a screen reader hears where a change ends, not every step on the way
  saying = setTimeout(() => {
    const [q, d] = best(trained)[0];
    $("said").textContent = `${classes[c]}, ${percent(p)}.` + (names.length ? ` As trained: ${classes[d]}, ${percent(q)}.` : "");
  }, 500);
}
