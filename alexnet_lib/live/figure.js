// Figure 2 with the maps of every layer, and below it one unit: its kernel, what it sees, how it comes by its number.


// The eight layers of Figure 2, each with its steps: conv1 relu1 norm1 pool1, …
const stages = [];
for (const layer of net.layers) {
  if (layer.kind === "conv" || layer.kind === "fc") stages.push({layer, steps: [], crosses: layer.groups === 1 || layer.kind === "fc"});
  if (stages.length && layer.kind !== "flatten") stages.at(-1).steps.push(layer);
}
const dimensions = shape => shape.join("\u2009×\u2009");

function buildFigure() {
  const input = make("canvas", {class: "maps whole", role: "img", "aria-label": "The input of the net"});
  const words = make("div", {class: "about"}, make("b", {}, "input"), make("br"), dimensions([3, crop, crop]), make("br"), make("i", {}, dimensions([3, 224, 224])));
  $("figure").append(make("div", {class: "layer input"}, words, input));
  for (const stage of stages) {
    const whole = net.columns === 1 || stage.layer.name === LAST, {layer, steps} = stage, box = make("div", {class: "layer"});
    stage.shown = (steps.filter(step => step.kind === "norm" || step.kind === "activation").at(-1) ?? layer).name;
    stage.canvases = (whole ? [0] : [0, 1]).map(column => make("canvas", {class: whole ? "maps whole" : "maps", role: "img",
      style: whole ? "" : `--gpu: var(--${column ? "two" : "one"})`}));
    stage.buttons = steps.map(step => make("button", {type: "button", "aria-pressed": false, "data-layer": step.name}, step.name));
    stage.words = make("div", {class: "about"});
    box.append(stage.words, ...stage.canvases, make("div", {class: "steps", role: "group", "aria-label": `Steps of ${layer.name}`, "aria-describedby": "hint-steps"}, ...stage.buttons));
    $("figure").append(box);
    stage.buttons.forEach(button => button.addEventListener("click", () => select({layer: button.dataset.layer})));
    stage.canvases.forEach((canvas, column) => {
      const at = event => {
        const {map, y, x} = under(canvas, event);
        return {layer: stage.shown, map: map + column * canvas.layout.count, y, x};
      };
      canvas.addEventListener("pointermove", event => { if (!state.held && event.pointerType === "mouse") select(at(event)); });
      canvas.addEventListener("click", event => {
        const unit = at(event), again = state.held && unit.map === state.unit.map && unit.layer === state.unit.layer;
        hold(!again);
        select(unit);
      });
    });
  }
  if (net.columns === 2) for (const column of [0, 1])
    $("figure").append(make("span", {class: "gpu", style: `top: ${5.4 + 12.4 * column}rem; height: 11.5rem; text-align: center; color: var(--${column ? "two" : "one"})`}, `GPU ${column + 1}`));
  stages.unshift({canvases: [input], input: true});
}

// What the brightest colour stands for: the largest number as trained, so that louder and quieter can be seen.
function scaleOf(name) {
  return largest((shown.touched.changes.activation === null ? shown.plain : shown.outputs)[name]);
}

function drawFigure() {
  const {input, outputs, touched: {noise, changes}} = shown, {unit} = state;
  const lit = (c, i) => level(input[c * crop * crop + i] * noise.divisor + mean[c * crop * crop + i]);
  mosaic(stages[0].canvases[0], {...plan(1, crop, 1), zoom: 1, step: crop + 1, width: crop + 2, height: crop + 2}, (_, i) => packed(lit(0, i), lit(1, i), lit(2, i)));
  for (const {shown: name, canvases, buttons, words} of stages.slice(1)) {
    const {shape: [maps, side = 1], paper} = net.named[name], scale = scaleOf(name), x = outputs[name], own = maps / canvases.length;
    canvases.forEach((canvas, column) => {
      const first = column * own, marked = unit.layer === name ? unit.map - first : -1;
      mosaic(canvas, plan(own, side, canvases.length > 1 ? 0.6 : 0.3), (map, i) => colourOf(x[(first + map) * side * side + i], scale), marked);
      canvas.setAttribute("aria-label", `${name}${canvases.length > 1 ? `, GPU ${column + 1}` : ""}: ${own} channels of ${side} × ${side}`);
      canvas.classList.toggle("silent", canvases.length > 1 && changes.silent === column);
    });
    buttons.forEach(button => button.setAttribute("aria-pressed", button.dataset.layer === name));
    words.replaceChildren(make("b", {}, name), make("br"), dimensions(net.named[name].shape), make("br"), make("i", {}, paper ? dimensions(paper) : ""));
  }
}

// Choose a unit; what isn't said stays, as far as the layer has it.
function select(wanted) {
  const unit = {...state.unit, ...wanted}, [maps, side = 1] = net.named[unit.layer].shape;
  const within = (value, most) => Math.max(0, Math.min(most - 1, Number.isFinite(value) ? Math.round(value) : 0));
  state.unit = {layer: unit.layer, map: within(unit.map, maps), y: within(unit.y, side), x: within(unit.x, side)};
  stages.find(stage => stage.steps?.some(step => step.name === unit.layer)).shown = unit.layer;
  redraw();
}

function hold(held) {
  state.held = held;
  $("hold").setAttribute("aria-pressed", held);
}

function drawUnit() {
  const {outputs, touched: {changes}} = shown, {layer: name, map, y, x} = state.unit, layer = net.changed(net.named[name], changes);
  const [maps, side = 1] = layer.shape, values = outputs[name], scale = scaleOf(name), source = net.layers.slice(0, layer.index + 1).findLast(l => l.weight);
  const set = (id, value, most) => { if (document.activeElement !== $(id)) $(id).value = value; $(id).max = most; };
  $("layer").value = name;
  set("map", map + 1, maps);
  set("row", y + 1, side);
  set("column", x + 1, side);
  $("place").hidden = side === 1;
  const large = $("large"), whole = side === 1;
  mosaic(large, whole ? plan(maps, 1, 1) : plan(1, side, 1), (at, i) => colourOf(values[whole ? at : map * side * side + i], scale), whole ? map : -1);
  if (!whole) frame(large, y, x);
  $("large-says").textContent = whole ? `all ${maps} units of ${name}` : `channel ${map + 1} of ${maps}; arrow keys move the unit`;
  large.setAttribute("aria-label", `${name}, channel ${map + 1}, row ${y + 1}, column ${x + 1}: ${round(values[(map * side + y) * side + x])}`);
  drawKernel(source, map % source.shape[0]);
  drawPatch(layer, source);
  $("formula").textContent = formula(layer, changes);
  const field = net.field(name, y, x, changes), facts = {
    "shape": dimensions(layer.shape) + (layer.paper ? `; the paper's ${dimensions(layer.paper)}` : ""),
    "parameters": layer.parameters ? layer.parameters.toLocaleString("en") : "none",
    "receptive field": `${field[2] - field[0] + 1} × ${field[3] - field[1] + 1} of ${crop} × ${crop} pixels`,
  };
  $("facts").replaceChildren(...Object.entries(facts).flatMap(([what, value]) => [make("dt", {}, what), make("dd", {}, value)]));
}

// The weights that make a channel: in colours for the first layer, else a tile for each channel that it sees.
function drawKernel(source, map) {
  const length = source.weight.length / source.shape[0], weights = source.weight.subarray(map * length, (map + 1) * length), most = largest(weights);
  const side = source.kernel ?? 1, seen = length / side / side, canvas = $("kernel");
  if (source.before[0] === 3) mosaic(canvas, plan(1, side, 1), (_, i) => packed(...[0, 1, 2].map(c => 128 + 127 * weights[c * side * side + i] / most)));
  else mosaic(canvas, plan(seen, side, 1), (at, i) => colourOf(weights[at * side * side + i], most));
  $("kernel-says").textContent = source.kernel ? `its kernel, ${seen} × ${side} × ${side}, in ${source.name}` : `its ${seen} weights in ${source.name}`;
  canvas.setAttribute("aria-label", $("kernel-says").textContent);
}

// The numbers that the unit is made of.
function drawPatch(layer, source) {
  const {outputs, input, touched: {changes}} = shown, {map, y, x} = state.unit, canvas = $("patch"), before = i => i > 0 ? outputs[net.layers[i - 1].name] : input;
  const [, height, width] = layer.before, fed = before(layer.index);
  let words;
  if (layer.kind === "pool") {
    const side = layer.window, value = i => fed[(map * height + y * layer.stride + Math.floor(i / side)) * width + x * layer.stride + i % side] ?? 0;
    mosaic(canvas, plan(1, side, 1), (_, i) => colourOf(value(i), scaleOf(net.layers[layer.index - 1].name)));
    words = `its window of ${side} × ${side}`;
  } else if (layer.kind === "norm") {
    const [first, end] = windowOf(map, layer.shape[0], layer), scale = scaleOf(net.layers[layer.index - 1].name);
    mosaic(canvas, plan(end - first, 1, 0.01), at => colourOf(fed[((first + at) * height + y) * width + x], scale), map - first);
    words = `its window, channels ${first + 1} to ${end}, at this place`;
  } else {
    const seen = before(source.index), side = source.kernel ?? 1, count = source.weight.length / source.shape[0] / side / side;
    if (source.kind === "fc") {
      const scale = largest(seen);
      mosaic(canvas, plan(count, 1, 1), at => colourOf(seen[at], scale));
      words = `the ${count} units that it sees`;
    } else {
      const first = Math.floor(map / (source.shape[0] / source.groups)) * count, length = side * side, patches = patchesOf(seen, source.before, first, count, source);
      const at = (y * source.shape[2] + x) * count * length, patch = patches.subarray(at, at + count * length), scale = largest(seen);
      if (source.before[0] === 3) mosaic(canvas, plan(1, side, 1), (_, i) => packed(...[0, 1, 2].map(c => level(patch[c * length + i] + GREY[c]))));
      else mosaic(canvas, plan(count, side, 1), (tile, i) => colourOf(patch[tile * length + i], scale));
      words = source.before[0] === 3 ? `the ${side} × ${side} pixels that it sees` : `what it sees, channels ${first + 1} to ${first + count}`;
    }
  }
  $("patch-says").textContent = words;
  canvas.setAttribute("aria-label", words);
}

// How the unit comes by its number.
function formula(layer, changes) {
  const {outputs} = shown, {map, y, x} = state.unit, [, side = 1] = layer.shape, at = (map * side + y) * side + x;
  const value = outputs[layer.name][at], below = layer.index ? outputs[net.layers[layer.index - 1].name] : null;
  if (changes.silent !== null && layer.name !== LAST && Math.floor(map / (layer.shape[0] / 2)) === changes.silent) return "0: its column is silent.";
  switch (layer.kind) {
    case "conv": case "fc": {
      const bias = layer.bias[map], sum = `Σ ${layer.kind === "conv" ? "kernel" : "weight"} × input = ${round(value - bias)}, plus the bias ${round(bias)}: ${round(value)}.`;
      return layer.name === LAST ? `${classes[map]}: ${sum} After the softmax: ${percent(net.probabilities(outputs)[map])}.` : sum;
    }
    case "activation": return layer.function === "relu" ? `max(0, ${round(below[at])}) = ${round(value)}.` : `${layer.function}(${round(below[at])}) = ${round(value)}.`;
    case "norm": {
      const [first, end] = windowOf(map, layer.shape[0], layer), scale = layer.reading === "sum" ? layer.alpha : layer.alpha / layer.n;
      let energy = 0;
      for (let j = first; j < end; j++) energy += below[(j * side + y) * side + x] ** 2;
      return `${round(below[at])} ÷ (${round(layer.k)} + ${round(scale)} · ${round(energy)})^${round(layer.beta)} = ${round(value)}. Its window holds ${end - first} channels; Σ a² = ${round(energy)}.`;
    }
    case "mapnorm": return `${round(below[at])}, divided by the energy of ${layer.n} × ${layer.n} places of its own map: ${round(value)}.`;
    case "pool": return `The largest of ${layer.window} × ${layer.window} units: ${round(value)}.`;
    case "drop": return changes.seed === null ? `${round(below[at])}, at the volume of a test: ${round(value)}.` : value || !below[at] ? `Its coin lets it speak: ${round(value)}.` : `Its coin silences it: ${round(below[at])} becomes 0.`;
  }
  return round(value);
}

function redraw() {
  drawPicture();
  drawFigure();
  drawUnit();
}
