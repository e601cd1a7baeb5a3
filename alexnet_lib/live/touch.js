// The controls: what each draws on its own card, what its buttons do, and the start of the page.

// ------------------------------------------------------------------------------------------------------ §3.3, LRN

// The response of a unit that is alone in its window, against its size; up to four times the loudest of this picture.
function drawHump() {
  const layer = net.layers.find(l => l.kind === "norm");
  if (!layer) return;
  const below = net.layers[layer.index - 1].name, loudest = largest(shown.outputs[below]), most = Math.max(4 * largest(shown.plain[below]), loudest);
  const response = ({reading, n, k, alpha, beta}) => a => a * (k + (reading === "sum" ? alpha : alpha / n) * a * a) ** -beta;
  const points = [...Array(101).keys()].map(i => i / 100 * most), plain = response(layer), now = response(net.changed(layer, shown.touched.changes));
  const high = Math.max(...points.map(plain), ...points.map(now)) || 1, line = f => points.map(a => [a / most, f(a) / high]);
  curves($("hump"), {plain: line(plain), now: line(now)}, [[loudest / most, now(loudest) / high]], [
    [0, 0, "a lone unit, before"], [1, 0, round(most)], [1, 1.06, `after: up to ${round(high)}`]]);
  $("hump").setAttribute("aria-label", `The response of a lone unit against its size: the loudest of this picture, ${round(loudest)}, becomes ${
    round(now(loudest))}; as trained, ${round(plain(loudest))}.`);
}

// --------------------------------------------------------------------------------------------------- §4.2, dropout

function drawThrows() {
  const {touched, input, outputs} = shown, {seed, ...changes} = touched.changes, of = JSON.stringify([{...touched, changes}, state.number]);
  const first = net.layers.find(layer => layer.kind === "drop");
  if (!first) return;
  if (of !== state.of || state.thrownAt !== state.picture) Object.assign(state, {of, thrownAt: state.picture, throws: []});
  const known = Object.fromEntries(net.layers.slice(0, first.index).map(layer => [layer.name, outputs[layer.name]]));
  const [halved, target] = best(net.probabilities(net.run(input, {...changes, seed: null}, known)))[0];
  if (seed !== null && state.throws.at(-1)?.seed !== seed) state.throws.push({seed, p: net.probabilities(outputs)[target]});
  const count = state.throws.length, sum = state.throws.reduce((total, {p}) => total + p, 0), most = Math.max(20, count);
  const means = state.throws.map((_, i) => [(i + 0.5) / most, state.throws.slice(0, i + 1).reduce((total, {p}) => total + p, 0) / (i + 1)]);
  curves($("throws"), {plain: [[0, halved], [1, halved]], ...(count > 1 ? {mean: means} : {})},
    state.throws.map(({p}, i) => [(i + 0.5) / most, p]), [[0, 0, "throws"], [1, 0, "probability of " + classes[target]]]);
  const words = count ? `Average of ${count} thrown net${count > 1 ? "s" : ""}: ${percent(sum / count)} for ${classes[target]}; the halved net: ${percent(halved)}.`
    : "0 is the halved net, with no coins.";
  $("thrown").textContent = words;
  $("throws").setAttribute("aria-label", words);
}

function throwCoins() {
  fields.seed.value = Number(fields.seed.value) % 99999 + 1;
  update();
}

let throwing = null;
function again(on = throwing === null) {
  clearInterval(throwing);
  throwing = on ? setInterval(() => state.throws.length < 200 ? throwCoins() : again(false), 120) : null;
  $("again").setAttribute("aria-pressed", on);
}

// ------------------------------------------------------------------------------------------------ §4.1, ten views

const crops = Array.from({length: 10}, () => $("crops").appendChild(make("canvas", {width: crop, height: crop})));

function drawViews() {
  const {touched: {noise, views}, answers, now} = shown, whole = onCanvas(imageOf(recoloured(noise), size));
  placesOf(10).forEach(([top, left, mirrored], i) => {
    const context = crops[i].getContext("2d");
    context.setTransform(mirrored ? -1 : 1, 0, 0, 1, mirrored ? crop : 0, 0);
    context.drawImage(whole, left, top, crop, crop, 0, 0, crop, crop);
    const [p, c] = views > i ? best(answers[i])[0] : [];
    crops[i].classList.toggle("in", views > i);
    crops[i].title = views > i ? `${classes[c]}, ${percent(p)}` : "";
  });
  const [p] = best(now)[0];
  fields.views.nextElementSibling.textContent = views ? `${views} of 10` : "centre";
  fields.views.setAttribute("aria-valuetext", views ? `${views} of ten views, ${percent(p)}` : "the centre alone");
}

// ----------------------------------------------------------------------------------------------------- occlusion

function moveSquare(top, left) {
  const room = size - (Number(fields.side.value) || (fields.side.value = 16)), share = at => Math.max(0, Math.min(100, at / room * 100));
  Object.assign(fields.top, {value: share(top)});
  Object.assign(fields.left, {value: share(left)});
  update();
}

function dragSquare(event) {
  const box = $("picture").getBoundingClientRect(), half = (Number(fields.side.value) || 16) / 2;
  if (event.type === "pointerdown" && event.pointerType !== "touch" || fields.side.value !== "0") {
    event.preventDefault();
    moveSquare((event.clientY - box.top) / box.height * size - half, (event.clientX - box.left) / box.width * size - half);
  }
}

const ARROWS = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};

// The square at every fourth pixel; how much of the probability of the best label is left, drawn over the picture.
let sweeping = 0;
async function sweep() {
  const mine = ++sweeping, {touched} = shown, side = Number(fields.side.value) || 16, drops = [], places = [];
  const covered = square => net.probabilities(net.run(inputOf(state.picture, size, crop, mean, placesOf(0)[0], touched.noise, square), touched.changes));
  const [whole, target] = best(covered(null))[0];
  for (let top = 0; top + side <= size; top += 4) for (let left = 0; left + side <= size; left += 4) places.push([top, left, side]);
  let at = performance.now();
  for (const square of places) {
    drops.push([covered(square)[target], square]);
    if (performance.now() - at > 40) {
      $("sweep").textContent = `${Math.round(100 * drops.length / places.length)} % done`;
      await new Promise(done => setTimeout(done));
      at = performance.now();
      if (mine !== sweeping) return;
    }
  }
  const context = $("heat").getContext("2d"), zoom = 256 / size, [low, [top, left]] = drops.reduce((a, b) => a[0] < b[0] ? a : b);
  $("heat").hidden = false;
  context.imageSmoothingEnabled = true;
  context.filter = "grayscale(1)";
  context.drawImage(onCanvas(imageOf(state.picture, size)), 0, 0, 256, 256);
  context.filter = "none";
  const heat = make("canvas", {width: Math.sqrt(places.length), height: Math.sqrt(places.length)}), cells = heat.getContext("2d");
  drops.forEach(([p], i) => {
    cells.fillStyle = `rgba(207, 59, 50, ${0.85 * Math.max(0, Math.min(1, 1 - p / whole))})`;
    cells.fillRect(i % heat.width, Math.floor(i / heat.width), 1, 1);
  });
  context.drawImage(heat, (side - 4) / 2 * zoom, (side - 4) / 2 * zoom, heat.width * 4 * zoom, heat.width * 4 * zoom);
  $("sweep").textContent = "Slide it over the whole picture";
  const words = `${classes[target]}: ${percent(whole)} uncovered, ${percent(low)} at worst, with the square's corner at row ${top + 1}, column ${left + 1}.`;
  $("heat-says").textContent = words;
  $("heat").setAttribute("aria-label", "Where covering the picture costs the most, in red. " + words);
}

// --------------------------------------------------------------------------------------------- §6.1, neighbours

const ACROSS = 24;  // training pictures in a row of the sheet
const near = Array.from({length: Math.min(6, about.known.length)}, () => {
  const line = make("li", {}, make("canvas", {width: crop, height: crop, role: "img"}), make("span"));
  $("near").append(line);
  return line;
});
let knownPixels = null;

// The pixels of the training pictures in the order of the net's input, one after the other.
function pixelsOf(sheet) {
  const context = make("canvas", {width: sheet.width, height: sheet.height}).getContext("2d", {willReadFrequently: true});
  context.drawImage(sheet, 0, 0);
  const found = new Uint8Array(about.known.length * 3 * crop * crop);
  about.known.forEach((_, i) => {
    const {data} = context.getImageData(i % ACROSS * crop, Math.floor(i / ACROSS) * crop, crop, crop);
    for (let c = 0; c < 3; c++) for (let j = 0; j < crop * crop; j++) found[(i * 3 + c) * crop * crop + j] = data[4 * j + c];
  });
  return found;
}

function neighbours() {
  if (chosen("by") === "features") return nearest(shown.outputs[HIDDEN], features, scales, near.length);
  knownPixels ??= pixelsOf(sheet);
  const {noise} = shown.touched, pixels = shown.input.map((level, i) => level * noise.divisor + mean[i]);
  return nearest(pixels, knownPixels, scales.map(() => 1), near.length);
}

function drawNear() {
  if (!sheet.complete || !sheet.width) return;
  neighbours().forEach(([, i], place) => {
    const [canvas, name] = near[place].children, known = about.known[i];
    canvas.getContext("2d").drawImage(sheet, i % ACROSS * crop, Math.floor(i / ACROSS) * crop, crop, crop, 0, 0, crop, crop);
    canvas.setAttribute("aria-label", `Training picture ${i + 1}, ${classes[known]}`);
    name.textContent = classes[known];
    near[place].classList.toggle("same", known === state.label);
  });
}

// ---------------------------------------------------------------------------------------------- everything together

const SAID = {alpha: value => round(10 ** value), beta: round, k: round, n: Math.round, side: value => value > 0 ? `${value} px` : "none",
  top: value => `${Math.round(value)} %`, left: value => `${Math.round(value)} %`};
for (const axis of ["axis1", "axis2", "axis3"]) SAID[axis] = value => round(value / 10);

function drawCards() {
  for (const [name, say] of Object.entries(SAID)) {
    const words = say(Number(fields[name].value));
    fields[name].nextElementSibling.textContent = words;
    fields[name].setAttribute("aria-valuetext", words);
  }
  drawHump();
  drawThrows();
  drawViews();
  drawNear();
}

// Looks where things lie, which costs a layout: only where they have moved, or a column falls silent.
function drawWires() {
  if (shown) wires($("wires"), $("figure"), stages, state.wired = shown.touched.changes.silent);
}

function refresh() {
  compute();
  if (state.unit === null) {  // the loudest unit of the first layer
    const {shown: layer} = stages[1], [, side] = net.named[layer].shape, values = shown.outputs[layer];
    const at = values.indexOf(Math.max(...values));
    state.unit = {layer, map: Math.floor(at / side / side), y: Math.floor(at / side) % side, x: at % side};
  }
  redraw();
  drawAnswers();
  drawCards();
  if (state.wired !== shown.touched.changes.silent) drawWires();
}

// However much is touched, the net runs once for a frame.
let asked = false;
function update() {
  if (!asked) requestAnimationFrame(() => {
    asked = false;
    refresh();
  });
  asked = true;
}

// Controls begin where the net was trained; what it hasn't got can't be touched.
function prepare() {
  const norm = net.layers.find(layer => layer.kind === "norm"), pool = net.layers.find(layer => layer.kind === "pool");
  const begin = (name, value) => {
    for (const field of form.querySelectorAll(`[name=${name}]`))
      if (field.type === "radio") field.checked = field.defaultChecked = field.value === String(value);
      else Object.assign(field, {defaultValue: value, value});
  };
  if (norm) for (const [name, value] of Object.entries({reading: norm.reading, k: norm.k, n: norm.n, alpha: Math.log10(norm.alpha), beta: norm.beta}))
    begin(name, value);
  begin("window", pool.window);
  begin("activation", net.layers.find(layer => layer.kind === "activation").function);
  $("card-lrn").disabled = $("card-lrn").hidden = !norm;
  $("card-columns").disabled = $("card-columns").hidden = net.columns === 1;
  $("card-dropout").disabled = $("card-dropout").hidden = !net.layers.some(layer => layer.kind === "drop");
  $("card-pooling").disabled = $("card-pooling").hidden = !(net.fits(2) && net.fits(3));
  for (const card of form.querySelectorAll("fieldset")) {
    const button = make("button", {type: "button", class: "reset", "aria-describedby": "hint-undo", "aria-label": `As trained: ${card.querySelector("legend").firstChild.textContent.trim()}`, hidden: ""}, "as trained");
    button.addEventListener("click", () => reset([...card.elements]));
    card.append(button);
  }
}

function reset(touched) {
  again(false);
  for (const field of touched)
    if (field.type === "radio") field.checked = field.defaultChecked;
    else if ("defaultValue" in field) field.value = field.defaultValue;
  update();
}

function start() {
  $("size").textContent = size;
  $("crop").textContent = $("crop-too").textContent = crop;
  prepare();
  buildFigure();
  for (const layer of net.layers) if (layer.kind !== "flatten" && layer.kind !== "pad") $("layer").append(make("option", {}, layer.name));
  about.labels.forEach((label, i) => {
    const button = make("button", {type: "button", "aria-label": classes[label], title: classes[label], "aria-pressed": i === 0}, onCanvas(imageOf(pictureAt(i), size)));
    button.addEventListener("click", () => show(pictureAt(i), i));
    $("gallery").append(button);
  });
  form.addEventListener("input", update);
  form.addEventListener("submit", event => event.preventDefault());
  $("file").addEventListener("change", event => event.target.files[0] && open(event.target.files[0]));
  $("camera").addEventListener("click", camera);
  $("undo").addEventListener("click", () => reset([...fields]));
  $("peek").addEventListener("click", () => $("look").scrollIntoView());
  $("throw").addEventListener("click", throwCoins);
  $("again").addEventListener("click", () => again());
  $("sweep").addEventListener("click", sweep);
  $("draw").addEventListener("click", () => {
    const draw = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
    for (const axis of ["axis1", "axis2", "axis3"]) fields[axis].value = Math.max(-3, Math.min(3, draw()));
    update();
  });
  const picture = $("picture");
  picture.addEventListener("pointerdown", event => {
    dragSquare(event);
    picture.setPointerCapture(event.pointerId);
  });
  picture.addEventListener("pointermove", event => event.buttons && dragSquare(event));
  picture.addEventListener("keydown", event => {
    if (!ARROWS[event.key]) return;
    event.preventDefault();
    const [top, left] = shown.touched.square ?? [28, 28], [down, right] = ARROWS[event.key];
    moveSquare(top + 2 * down, left + 2 * right);
  });
  $("layer").addEventListener("change", () => { hold(true); select({layer: $("layer").value}); });
  for (const [id, key] of [["map", "map"], ["row", "y"], ["column", "x"]])
    $(id).addEventListener("input", () => { hold(true); select({[key]: $(id).value - 1}); });
  $("hold").addEventListener("click", () => hold(!state.held));
  const large = $("large"), at = event => {
    const {map, y, x} = under(large, event);
    return large.layout.count > 1 ? {map} : {y, x};
  };
  large.addEventListener("pointermove", event => event.pointerType === "mouse" && select(at(event)));
  large.addEventListener("click", event => select(at(event)));
  large.addEventListener("keydown", event => {
    if (!ARROWS[event.key]) return;
    event.preventDefault();
    hold(true);
    const [down, right] = ARROWS[event.key], {map, y, x} = state.unit, units = large.layout;
    select(units.count > 1 ? {map: map + down * units.wide + right} : {y: y + down, x: x + right});
  });
  document.addEventListener("dragover", event => event.preventDefault());
  document.addEventListener("drop", event => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
  new ResizeObserver(drawWires).observe($("figure"));
  new IntersectionObserver(([answers]) => $("peek").hidden = answers.isIntersecting).observe($("answers"));
  sheet.addEventListener("load", update);
  sheet.src = "data:image/webp;base64," + stored("thumbnails");
  refresh();
}

start();
