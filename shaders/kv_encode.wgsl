// kv_encode: stores f32 vectors of some slots in fewer bits elsewhere in the same buffer.
//
//   int8   scale = max |x| / 127, n = round(x / scale);  int4, per 32 dimensions: scale = (max - min) / 15, n = round((x - min) / scale)
//   kivi4  as int4, but per dimension over 32 slots
//
// Source    runtime/kv/formats.ts and kivi.ts define the formats; KIVI: https://arxiv.org/abs/2402.02750, section 3.
// Shapes    data: words of K or V, pages of `padded` f32 vectors. From word `at` of step_data [count] each: word of the vector; word of
//           the page it goes to; its slot there; then head_dim. Done `heads` times, `apart` words apart: the same page of other heads.
// Types     f32 in; integers with f32 (int8) or f16 scales out. Rounded as the reference rounds, half up, from exact distances.
// Bindings  0 params, 1 step_data, 2 data
// Dispatch  (ceil(heads * count / 64), 1, 1), one vector per lane; kivi4 (ceil(heads * count / 32 / 64), 1, 1), one group per lane
// Limits    head_dim <= 256. Pages that are written are not read.
// Order     none: comparisons, and one rounding per number.

// 1 int8, 2 int4, 3 kivi4
override FORM: u32 = 1;

struct Params {
  heads: u32,
  apart: u32,
  count: u32,
  at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step_data: array<u32>;
@group(0) @binding(2) var<storage, read_write> data: array<u32>;

// Among the step's numbers, because lavapipe compiles a kernel anew for every value of a parameter that ends a loop.
fn dimensions() -> u32 {
  return step_data[params.at + 3u * params.count];
}

// a - q * m exactly, for m of at most 8 bits and q near a / m; fma may round in between.
fn rest(a: f32, q: f32, m: f32) -> f32 {
  let high = bitcast<f32>(bitcast<u32>(q) & 0xffffff00u);
  return (a - high * m) - (q - high) * m;
}

// a / m to the last place, whatever the built-in's error.
fn divide(a: f32, m: f32) -> f32 {
  let q = a / m;
  return q + rest(a, q, m) / m;
}

// v + low as f16, to nearest, ties to even; v >= 0.
fn to_half(v: f32, low: f32) -> u32 {
  var h = 0u;
  if (v >= 6.103515625e-5) {
    h = min((bitcast<u32>(v) >> 13u) - (112u << 10u), 0x7bffu);
  } else {
    h = u32(v * 16777216.0);
  }
  let middle = 0.5 * (half_value(h) + half_value(h + 1u));
  let above = (v - middle) + low;
  return select(h, h + 1u, above > 0.0 || (above == 0.0 && (h & 1u) == 1u));
}

// Of a finite f16 >= 0, or of the number after the largest.
fn half_value(h: u32) -> f32 {
  if (h < 0x400u) {
    return f32(h) * 5.9604644775390625e-8;
  }
  return bitcast<f32>((h + (112u << 10u)) << 13u);
}

fn signed_half(v: f32) -> u32 {
  return select(to_half(v, 0.0), to_half(-v, 0.0) | 0x8000u, v < 0.0);
}

fn signed_value(h: u32) -> f32 {
  return select(half_value(h & 0x7fffu), -half_value(h & 0x7fffu), h >= 0x8000u);
}

// Scale in the low half, minimum in the high half.
fn scale_of(least: f32, most: f32) -> u32 {
  let range = most - least;
  let error = (most - (range + least)); // what the difference was rounded by
  let q = range / 15.0;
  let low = (rest(range, q, 15.0) + error) / 15.0;
  return to_half(q, low) | (signed_half(least) << 16u);
}

// The nearest of 16 numbers of a scale; halves go up.
fn nibble(x: f32, scale: u32) -> u32 {
  let zero = signed_value(scale >> 16u);
  let unit = select(half_value(scale & 0xffffu), 1.0, (scale & 0xffffu) == 0u);
  let d = x - zero;
  let back = d + zero;
  let low = (x - back) + (zero - (back - d)); // x - zero = d + low exactly
  var n = u32(clamp(floor(d / unit), 0.0, 15.0));
  // The guess may be one off to either side.
  n = max(n, 1u) - 1u;
  for (var k = 0u; k < 3u; k++) {
    if (n < 15u && (d - (f32(n) + 0.5) * unit) + low >= 0.0) {
      n += 1u;
    }
  }
  return n;
}

fn int8(source: u32, to: u32) {
  let head_dim = dimensions();
  var most = 0.0;
  for (var d = 0u; d < head_dim; d++) {
    most = max(most, abs(bitcast<f32>(data[source + d])));
  }
  let scale = divide(most, 127.0);
  data[to] = bitcast<u32>(scale);
  for (var d = 0u; d < head_dim; d += 4u) {
    var word = 0u;
    for (var c = 0u; c < min(4u, head_dim - d); c++) {
      let x = bitcast<f32>(data[source + d + c]);
      var n = 0.0;
      if (scale > 0.0) {
        // The largest n with (n - 1/2) scale <= x.
        n = floor(x / scale) - 1.0;
        for (var k = 0u; k < 3u; k++) {
          if (rest(x, scale, n + 0.5) >= 0.0) {
            n += 1.0;
          }
        }
      }
      word |= (u32(i32(clamp(n, -127.0, 127.0))) & 255u) << (8u * c);
    }
    data[to + 1u + d / 4u] = word;
  }
}

fn int4(source: u32, to: u32) {
  let head_dim = dimensions();
  let groups = (head_dim + 31u) / 32u;
  for (var g = 0u; g < groups; g++) {
    let start = g * 32u;
    let end = min(head_dim, start + 32u);
    var least = bitcast<f32>(data[source + start]);
    var most = least;
    for (var d = start; d < end; d++) {
      let x = bitcast<f32>(data[source + d]);
      least = min(least, x);
      most = max(most, x);
    }
    let scale = scale_of(least, most);
    data[to + g] = scale;
    for (var d = start; d < end; d += 8u) {
      var word = 0u;
      for (var c = 0u; c < min(8u, end - d); c++) {
        word |= nibble(bitcast<f32>(data[source + d + c]), scale) << (4u * c);
      }
      data[to + groups + d / 8u] = word;
    }
  }
}

// The 32 slots of a list from `first` on; `base` is the head's first word.
fn kivi4(first: u32, base: u32) {
  let head_dim = dimensions();
  let step = (head_dim + 7u) / 8u;
  let page = base + step_data[params.at + params.count + first];
  let slot = step_data[params.at + 2u * params.count + first];
  let to = page + slot / 32u * (head_dim + 32u * step);
  for (var d = 0u; d < head_dim; d++) {
    var least = bitcast<f32>(data[base + step_data[params.at + first] + d]);
    var most = least;
    for (var t = 0u; t < 32u; t++) {
      let x = bitcast<f32>(data[base + step_data[params.at + first + t] + d]);
      least = min(least, x);
      most = max(most, x);
    }
    data[to + d] = scale_of(least, most);
  }
  for (var t = 0u; t < 32u; t++) {
    let source = base + step_data[params.at + first + t];
    for (var d = 0u; d < head_dim; d += 8u) {
      var word = 0u;
      for (var c = 0u; c < min(8u, head_dim - d); c++) {
        word |= nibble(bitcast<f32>(data[source + d + c]), data[to + d + c]) << (4u * c);
      }
      data[to + head_dim + t * step + d / 8u] = word;
    }
  }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let head_dim = dimensions();
  let size = select(1u, 32u, FORM == 3u);
  let items = params.count / size;
  if (id.x >= items * params.heads) {
    return;
  }
  let first = id.x % items * size;
  let base = id.x / items * params.apart;
  let source = base + step_data[params.at + first];
  let page = base + step_data[params.at + params.count + first];
  let slot = step_data[params.at + 2u * params.count + first];
  if (FORM == 1u) {
    int8(source, page + slot * (1u + (head_dim + 3u) / 4u));
  } else if (FORM == 2u) {
    int4(source, page + slot * ((head_dim + 31u) / 32u + (head_dim + 7u) / 8u));
  } else {
    kivi4(first, base);
  }
}
