// The net and what is done to a picture before it. Nothing here knows of the page: numbers in, numbers out.
// A map or a layer's output is a Float32Array in the order channel, row, column, as in PyTorch. Sums are in float64.

// ------------------------------------------------------------------------------------------- what lies in the page

function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

function floatsOf(base64) {
  return new Float32Array(bytesOf(base64).buffer);
}

// Half precision: a sign, five bits of exponent, ten of fraction. All 65,536 numbers once, then a look at the table.
function halvesOf(base64) {
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent === 0 ? fraction * 2 ** -24
      : exponent === 31 ? (fraction ? NaN : Infinity)
      : (1 + fraction / 1024) * 2 ** (exponent - 15);
    table[bits] = bits & 32768 ? -size : size;
  }
  const stored = new Uint16Array(bytesOf(base64).buffer), numbers = new Float32Array(stored.length);
  for (let i = 0; i < stored.length; i++) numbers[i] = table[stored[i]];
  return numbers;
}

// ------------------------------------------------------------------------------------------------------- the layers

const volume = shape => shape.reduce((product, side) => product * side, 1);

// Four sums at a time, so that a processor need not wait for each before it begins the next.
function dot(a, from, b, start, count) {
  let s0 = 0, s1 = 0, s2 = 0, s3 = 0, i = 0;
  for (; i + 3 < count; i += 4) {
    s0 += a[from + i] * b[start + i];
    s1 += a[from + i + 1] * b[start + i + 1];
    s2 += a[from + i + 2] * b[start + i + 2];
    s3 += a[from + i + 3] * b[start + i + 3];
  }
  for (; i < count; i++) s0 += a[from + i] * b[start + i];
  return s0 + s1 + s2 + s3;
}

// "pad": zeros on the right and below, up to the side that the first layer wants.
function pad(x, [channels, height, width], [, rows, columns]) {
  const out = new Float32Array(channels * rows * columns);
  for (let c = 0; c < channels; c++)
    for (let y = 0; y < height; y++)
      out.set(x.subarray((c * height + y) * width, (c * height + y + 1) * width), (c * rows + y) * columns);
  return out;
}

// What one unit sees, for every place of one group: rows of numbers that lie side by side, to be multiplied by kernels.
function patchesOf(x, [, height, width], first, channels, layer) {
  const {kernel, stride, padding, shape: [, rows, columns]} = layer;
  const patches = new Float32Array((rows * columns + 3) * channels * kernel * kernel);  // see `convolution`
  let i = 0;
  for (let y = 0; y < rows; y++)
    for (let column = 0; column < columns; column++)
      for (let c = first; c < first + channels; c++)
        for (let ky = y * stride - padding, bottom = ky + kernel; ky < bottom; ky++)
          for (let kx = column * stride - padding, right = kx + kernel; kx < right; kx++, i++)
            if (ky >= 0 && ky < height && kx >= 0 && kx < width) patches[i] = x[(c * height + ky) * width + kx];
  return patches;
}

// Four places at a time, so that a weight is fetched once for four sums; the last places may be less than four.
function convolution(x, before, layer) {
  const {groups, weight, bias, kernel, shape} = layer;
  const out = new Float32Array(volume(shape)), places = shape[1] * shape[2];
  const channels = before[0] / groups, maps = shape[0] / groups, length = channels * kernel * kernel;
  for (let group = 0; group < groups; group++) {
    const patches = patchesOf(x, before, group * channels, channels, layer);
    for (let map = group * maps; map < (group + 1) * maps; map++)
      for (let place = 0; place < places; place += 4) {
        let a = place * length, b = a + length, c = b + length, d = c + length, s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        for (let i = map * length; i < (map + 1) * length; i++) {
          const w = weight[i];
          s0 += w * patches[a++];
          s1 += w * patches[b++];
          s2 += w * patches[c++];
          s3 += w * patches[d++];
        }
        const at = map * places + place, left = places - place;
        out[at] = bias[map] + s0;
        if (left > 1) out[at + 1] = bias[map] + s1;
        if (left > 2) out[at + 2] = bias[map] + s2;
        if (left > 3) out[at + 3] = bias[map] + s3;
      }
  }
  return out;
}

function fullyConnected(x, {weight, bias, shape: [units]}) {
  const out = new Float32Array(units);
  for (let unit = 0; unit < units; unit++) out[unit] = bias[unit] + dot(weight, unit * x.length, x, 0, x.length);
  return out;
}

const ACTIVATIONS = {
  relu: a => a > 0 ? a : 0,
  tanh: Math.tanh,
  logistic: a => 1 / (1 + Math.exp(-a)),
};

// Which maps, from the first to the one after the last, map i is normalised by: those of its own column.
function windowOf(i, maps, {n, columns, reading}) {
  const own = maps / columns, start = Math.floor(i / own) * own, half = Math.floor(n / 2);
  return [Math.max(start, i - half), Math.min(start + own, i + (reading === "sum" ? half : n - 1 - half) + 1)];
}

// §3.3, across maps: b = a · (k + α·Σ a²)^(−β), or with the mean, α/n, in place of the sum.
function normalised(x, [maps, rows, columns], norm) {
  const out = new Float32Array(x.length), places = rows * columns;
  const scale = norm.reading === "sum" ? norm.alpha : norm.alpha / norm.n;
  for (let i = 0; i < maps; i++) {
    const [first, end] = windowOf(i, maps, norm);
    for (let place = 0; place < places; place++) {
      let energy = 0;
      for (let j = first; j < end; j++) energy += x[j * places + place] ** 2;
      out[i * places + place] = x[i * places + place] * (norm.k + scale * energy) ** -norm.beta;
    }
  }
  return out;
}

// The same within a map, over n × n places; the program of 2012 has it, the paper doesn't mention it.
function normalisedWithin(x, [maps, rows, columns], {n, k, alpha, beta}) {
  const out = new Float32Array(x.length), half = (n - 1) / 2;
  for (let map = 0, i = 0; map < maps; map++)
    for (let y = 0; y < rows; y++)
      for (let column = 0; column < columns; column++, i++) {
        let energy = 0;
        for (let v = Math.max(0, y - half); v <= Math.min(rows - 1, y + half); v++)
          for (let u = Math.max(0, column - half); u <= Math.min(columns - 1, column + half); u++)
            energy += x[(map * rows + v) * columns + u] ** 2;
        out[i] = x[i] * (k + alpha * energy / (n * n)) ** -beta;
      }
  return out;
}

function pooled(x, [, height, width], {window: side, stride, shape}) {
  const out = new Float32Array(volume(shape));
  for (let map = 0, i = 0; map < shape[0]; map++)
    for (let y = 0; y < shape[1]; y++)
      for (let column = 0; column < shape[2]; column++, i++) {
        let most = -Infinity;
        for (let v = y * stride; v < Math.min(height, y * stride + side); v++)
          for (let u = column * stride; u < Math.min(width, column * stride + side); u++)
            most = Math.max(most, x[(map * height + v) * width + u]);
        out[i] = most;
      }
  return out;
}

// A small generator of numbers from 0 to 1 (mulberry32), so that a throw of coins can be repeated from its seed.
function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

// The coins of one layer: 1 for a unit that speaks. The layer's number keeps the two layers' coins apart.
function coins(seed, layer, units, p) {
  const draw = generator(seed * 64 + layer);
  return Uint8Array.from({length: units}, () => draw() >= p ? 1 : 0);
}

// §4.2: the halved net of a test, or, with a seed, one of the nets of training.
function dropped(x, {p, inverted, index}, seed) {
  if (seed === null) return inverted ? x : x.map(a => a * (1 - p));
  const thrown = coins(seed, index, x.length, p);
  return x.map((a, i) => a * thrown[i] / (inverted ? 1 - p : 1));
}

function softmax(logits) {
  const most = Math.max(...logits), powers = Array.from(logits, a => Math.exp(a - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map(a => a / sum);
}

// ---------------------------------------------------------------------------------------------------------- the net

// What can be touched, as the net was trained: nothing.
const UNTOUCHED = {norm: null, window: null, activation: null, silent: null, seed: null};

class Net {
  // layers: as page.py describes them; weights: of all layers, one after the other.
  constructor(layers, weights, crop) {
    let at = 0, shape = [3, crop, crop];
    const take = count => weights.subarray(at, at += count);
    this.layers = layers.map((layer, index) => {
      const own = {...layer, index, before: shape};
      shape = layer.shape;
      if (layer.parameters) {
        own.weight = take(layer.parameters - shape[0]);
        own.bias = take(shape[0]);
      }
      return own;
    });
    this.named = Object.fromEntries(this.layers.map(layer => [layer.name, layer]));
    this.columns = Math.max(...layers.map(layer => layer.groups ?? 1));
  }

  // A layer with what is changed in it: {norm: {reading, n, k, alpha, beta}, window, activation}.
  changed(layer, changes) {
    switch (layer.kind) {
      case "norm": return {...layer, ...changes.norm};
      case "pool": return {...layer, window: changes.window ?? layer.window};
      case "activation": return {...layer, function: changes.activation ?? layer.function};
    }
    return layer;
  }

  // Whether windows of this side leave every layer its shape.
  fits(side) {
    return this.layers.filter(layer => layer.kind === "pool")
      .every(({before, stride, shape}) => Math.floor((before[1] - side) / stride) + 1 === shape[1]);
  }

  // The outputs of all layers, {name: Float32Array}.
  // known: outputs that are there already; what follows them is computed.
  run(input, changes = UNTOUCHED, known = {}) {
    const outputs = {...known};
    let x = input;
    for (const layer of this.layers) x = outputs[layer.name] ??= this.silenced(this.apply(x, layer, changes), layer, changes);
    return outputs;
  }

  apply(x, original, changes) {
    const layer = this.changed(original, changes);
    switch (layer.kind) {
      case "pad": return pad(x, layer.before, layer.shape);
      case "conv": return convolution(x, layer.before, layer);
      case "fc": return fullyConnected(x, layer);
      case "activation": return x.map(ACTIVATIONS[layer.function]);
      case "norm": return normalised(x, layer.before, layer);
      case "mapnorm": return normalisedWithin(x, layer.before, layer);
      case "pool": return pooled(x, layer.before, layer);
      case "drop": return dropped(x, layer, changes.seed);
    }
    return x;  // "flatten": the order is the same
  }

  // One column's maps and units are zero, in all layers that belong to columns.
  silenced(x, layer, {silent}) {
    if (silent === null || layer.kind === "pad" || layer === this.layers.at(-1)) return x;
    const half = x.length / 2;
    return x.slice().fill(0, silent * half, (silent + 1) * half);
  }

  probabilities(outputs) {
    return softmax(outputs[this.layers.at(-1).name]);
  }

  // The part of the crop that a unit sees, [top, left, bottom, right], ends included; kernels and windows, walked back.
  field(name, y, column, changes = UNTOUCHED) {
    let rows = [y, y], columns = [column, column];
    const widen = (stride, padding, side) => [rows, columns] = [rows, columns]
      .map(([first, last]) => [first * stride - padding, last * stride - padding + side - 1]);
    for (let i = this.named[name].index; i >= 0; i--) {
      const layer = this.changed(this.layers[i], changes), [, height, width] = layer.before;
      if (layer.kind === "fc") return [0, 0, this.layers[0].before[1] - 1, this.layers[0].before[2] - 1];
      if (layer.kind === "conv") widen(layer.stride, layer.padding, layer.kernel);
      if (layer.kind === "pool") widen(layer.stride, 0, layer.window);
      if (layer.kind === "mapnorm") widen(1, (layer.n - 1) / 2, layer.n);
      if (layer.kind === "flatten") [rows, columns] = [[0, height - 1], [0, width - 1]];
      rows = [Math.max(0, rows[0]), Math.min(height - 1, rows[1])];
      columns = [Math.max(0, columns[0]), Math.min(width - 1, columns[1])];
    }
    return [rows[0], columns[0], rows[1], columns[1]];
  }
}

// ------------------------------------------------------------------------------------------------------- the picture

// §2: scaled until the shorter side is `size`, then the central square. Bilinear with antialiasing, as Pillow does it.
// pixels: red, green, blue and one more byte for each, row by row; gives size × size × 3 bytes.
function fit(pixels, width, height, size) {
  const shorter = Math.min(width, height);
  const [across, down] = [width, height].map(side => Math.floor(size * side / shorter));
  const columns = sharesOf(width, across, Math.floor((across - size) / 2), size);
  const rows = sharesOf(height, down, Math.floor((down - size) / 2), size);
  const narrow = new Float32Array(height * size * 3), out = new Uint8Array(size * size * 3);
  for (let y = 0; y < height; y++)
    columns.forEach(([first, shares], column) => {
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let i = 0; i < shares.length; i++) sum += shares[i] * pixels[(y * width + first + i) * 4 + c];
        narrow[(y * size + column) * 3 + c] = Math.round(sum);  // Pillow keeps bytes between the two directions
      }
    });
  rows.forEach(([first, shares], y) => {
    for (let i = 0; i < size * 3; i++) {
      let sum = 0;
      for (let j = 0; j < shares.length; j++) sum += shares[j] * narrow[(first + j) * size * 3 + i];
      out[y * size * 3 + i] = Math.round(sum);
    }
  });
  return out;
}

// For some pixels of a line scaled from `from` to `to`: the first old pixel that each is made of, and their shares.
function sharesOf(from, to, start, count) {
  const scale = from / to, reach = Math.max(1, scale);
  return Array.from({length: count}, (_, i) => {
    const centre = (start + i + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - reach + 0.5)), last = Math.min(from, Math.floor(centre + reach + 0.5));
    const shares = Array.from({length: last - first},
      (_, j) => Math.max(0, 1 - Math.abs((first + j - centre + 0.5) / reach)));
    const sum = shares.reduce((a, b) => a + b, 0);
    return [first, shares.map(share => share / sum)];
  });
}

// §4.1: what is added to red, green and blue: Σ α·size·axis, with the deviation √λ, or λ as printed, for the size.
function colourShift(alphas, {eigenvalues, eigenvectors}, units) {
  const sizes = alphas.map((alpha, i) => alpha * (units === "printed" ? eigenvalues[i] : Math.sqrt(eigenvalues[i])));
  return eigenvectors.map(row => sizes.reduce((sum, size, i) => sum + size * row[i], 0));
}

// The input of the net: a crop less the mean, its colour shifted, a square of it without any news (0, the mean itself).
// view: [top, left, mirrored] in pixels; noise: {shift, divisor}; square: [top, left, side] in pixels of the picture.
function inputOf(picture, size, crop, mean, [top, left, mirrored], noise, square) {
  const out = new Float32Array(3 * crop * crop);
  for (let y = 0; y < crop; y++)
    for (let x = 0; x < crop; x++) {
      const row = top + y, column = left + (mirrored ? crop - 1 - x : x);
      if (square && row >= square[0] && row < square[0] + square[2] && column >= square[1] && column < square[1] + square[2])
        continue;
      for (let c = 0; c < 3; c++) {
        const place = (c * crop + y) * crop + x;
        out[place] = (picture[(row * size + column) * 3 + c] - mean[place] + noise.shift[c]) / noise.divisor;
      }
    }
  return out;
}

// The training pictures nearest by Euclidean distance; features: bytes, to be multiplied by each picture's scale.
function nearest(query, features, scales, count) {
  const units = query.length, own = dot(query, 0, query, 0, units);
  const distances = Array.from(scales, (scale, i) =>
    own - 2 * scale * dot(features, i * units, query, 0, units)
    + scale * scale * dot(features, i * units, features, i * units, units));
  return distances.map((distance, i) => [Math.sqrt(Math.max(0, distance)), i]).sort((a, b) => a[0] - b[0]).slice(0, count);
}
