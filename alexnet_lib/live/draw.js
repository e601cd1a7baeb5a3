// What is drawn: maps, kernels and pictures on canvases, a pixel for each number; curves and the wires of Figure 2 as SVG.

const SVG = "http://www.w3.org/2000/svg";
const $ = id => document.getElementById(id);

function make(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...inside);
  return element;
}

function drawn(tag, attributes, text = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

// A number as one says it: three digits.
function round(value) {
  return value.toLocaleString("en", {maximumSignificantDigits: 3}).replace("-", "−");
}

const percent = share => share > 0.9995 ? "100 %" : `${(100 * share).toFixed(1)} %`;

// ------------------------------------------------------------------------------------------------------------ colours

// From black over violet and orange to cream, for what is never negative; from blue over black to orange for the rest.
const WARM = [[13, 11, 18], [62, 21, 92], [139, 33, 104], [211, 68, 66], [246, 140, 40], [252, 240, 190]];
const COLD = [[13, 11, 18], [16, 62, 110], [40, 130, 190], [170, 225, 250]];

function between(stops, t) {
  const at = Math.min(0.9999, Math.max(0, t)) * (stops.length - 1), i = Math.floor(at);
  return stops[i].map((level, c) => level + (at - i) * (stops[i + 1][c] - level));
}

// A colour as one number, as a canvas keeps it: red is the lowest byte.
const packed = (r, g, b) => (255 << 24 | b << 16 | g << 8 | r) >>> 0;
const level = value => Math.max(0, Math.min(255, value));

// All the colours once: index 256 is 0, 512 the scale and more, 0 its negative.
const COLOURS = Uint32Array.from({length: 513}, (_, i) => packed(...i >= 256 ? between(WARM, (i - 256) / 256) : between(COLD, (256 - i) / 256)));
// Square roots, so that faint units can be seen beside loud ones.
const colourOf = (value, scale) => COLOURS[Math.round(256 + 256 * Math.sign(value) * Math.sqrt(Math.min(1, Math.abs(value) / scale)))];

// The size of the largest number.
function largest(values) {
  let most = 0;
  for (const value of values) most = Math.max(most, Math.abs(value));
  return most || 1;
}

// ------------------------------------------------------------------------------------------------------------- mosaics

const GAP = 1;

// How many tiles go across, so that the mosaic is about so many times as wide as tall.
function across(count, shape = 0.6) {
  let best = 1;
  for (let n = 1; n <= count; n++)
    if (count % n === 0 && Math.abs(Math.log(n * n / count / shape)) < Math.abs(Math.log(best * best / count / shape))) best = n;
  return best;
}

// Where the tiles of a mosaic lie: {count, side, zoom, wide, high, width, height}, the last two in pixels of the canvas.
function plan(count, side, shape) {
  const wide = across(count, shape), high = count / wide, zoom = Math.max(1, Math.round(14 / side)), step = side * zoom + GAP;
  return {count, side, zoom, wide, high, step, width: wide * step + GAP, height: high * step + GAP};
}

// Square maps side by side. colour: from map and place in it to a packed colour; marked: a tile to be framed.
function mosaic(canvas, layout, colour, marked = -1) {
  const {count, side, zoom, wide, step, width, height} = layout;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer), white = packed(255, 255, 255);
  for (let map = 0; map < count; map++) {
    const left = (map % wide) * step + GAP, top = Math.floor(map / wide) * step + GAP;
    for (let y = 0; y < side; y++)
      for (let x = 0; x < side; x++) {
        const own = colour(map, y * side + x);
        for (let v = 0, at = (top + y * zoom) * width + left + x * zoom; v < zoom; v++, at += width) pixels.fill(own, at, at + zoom);
      }
    if (map === marked)
      for (let i = -1; i < step; i++)
        for (const [x, y] of [[left + i, top - 1], [left + i, top + step - 1], [left - 1, top + i], [left + step - 1, top + i]])
          pixels[Math.min(y, height - 1) * width + Math.min(x, width - 1)] = white;
  }
  context.putImageData(image, 0, 0);
  if (canvas.layout?.width !== width || canvas.layout.height !== height) canvas.style.setProperty("--ratio", width / height);
  canvas.layout = layout;
}

// The map and the unit of a mosaic under the pointer.
function under(canvas, event) {
  const box = canvas.getBoundingClientRect(), {count, side, zoom, wide, step, width, height} = canvas.layout;
  const x = (event.clientX - box.left) / box.width * width - GAP, y = (event.clientY - box.top) / box.height * height - GAP;
  const inside = (at, most) => Math.max(0, Math.min(most - 1, Math.floor(at)));
  const tile = [inside(y / step, count / wide), inside(x / step, wide)];
  return {map: tile[0] * wide + tile[1], y: inside((y - tile[0] * step) / zoom, side), x: inside((x - tile[1] * step) / zoom, side)};
}

// A frame around one unit of a mosaic with one map.
function frame(canvas, y, x) {
  const {zoom} = canvas.layout, context = canvas.getContext("2d");
  context.strokeStyle = "#fff";
  context.strokeRect(GAP + x * zoom - 0.5, GAP + y * zoom - 0.5, zoom + 1, zoom + 1);
}

// ------------------------------------------------------------------------------------------------------------ pictures

// Red, green and blue bytes as an image of `side` × `side`.
function imageOf(rgb, side) {
  const image = new ImageData(side, side);
  for (let i = 0; i < side * side; i++) image.data.set([rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2], 255], 4 * i);
  return image;
}

function onCanvas(image) {
  const canvas = make("canvas", {width: image.width, height: image.height});
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// ---------------------------------------------------------------------------------------------------------------- SVG

// Curves in one frame: {class: [[x, y], …]} with x and y from 0 to 1, y upwards; words: [x, y, text] in the same units.
function curves(svg, lines, dots = [], words = []) {
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const at = ([x, y]) => [(x * width).toFixed(1), (height - 12 - y * (height - 20)).toFixed(1)];
  svg.replaceChildren(
    drawn("path", {class: "axis", d: `M${at([0, 0])}L${at([1, 0])}`}),
    ...Object.entries(lines).map(([name, points]) => drawn("path", {class: name, d: "M" + points.map(at).join("L")})),
    ...dots.map(dot => drawn("circle", {class: "dot", r: 3, cx: at(dot)[0], cy: at(dot)[1]})),
    ...words.map(([x, y, text]) => {
      const [left, top] = at([x, y]);
      return drawn("text", {x: left, y: +top + 10, "text-anchor": x > 0.5 ? "end" : "start"}, text);
    }),
  );
}

// The wires between the layers of Figure 2. stages: for each layer its canvases, one a column, or one for both; crosses:
// whether it sees both columns of the one before; silent: the column whose wires fade.
function wires(svg, figure, stages, silent) {
  const frame = figure.getBoundingClientRect(), down = getComputedStyle(figure).flexDirection === "column";
  const end = (canvas, after) => {
    const box = canvas.getBoundingClientRect();
    return down ? [box.left + box.width / 2 - frame.left, (after ? box.bottom : box.top) - frame.top]
      : [(after ? box.right : box.left) - frame.left, box.top + box.height / 2 - frame.top];
  };
  const paths = [];
  for (let i = 1; i < stages.length; i++)
    stages[i - 1].canvases.forEach((from, a) => stages[i].canvases.forEach((to, b) => {
      const both = stages[i - 1].canvases.length > 1 && stages[i].canvases.length > 1;
      if (both && a !== b && !stages[i].crosses) return;
      const [x, y] = end(from, true), [u, v] = end(to, false), column = stages[i - 1].canvases.length > 1 ? a : b;
      const bend = down ? `${x},${(y + v) / 2} ${u},${(y + v) / 2}` : `${(x + u) / 2},${y} ${(x + u) / 2},${v}`;
      const fades = silent !== null && ((stages[i - 1].canvases.length > 1 && a === silent) || (stages[i].canvases.length > 1 && b === silent));
      paths.push(drawn("path", {class: (column ? "two" : "one") + (fades ? " silent" : ""), d: `M${x},${y}C${bend} ${u},${v}`}));
    }));
  svg.replaceChildren(...paths);
}
