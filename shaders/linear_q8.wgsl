// linear_q8: x times the transpose of up to three weight matrices in 8 bits, with what follows fused in.
//
//   y[t, n] = sum over k of x[t, k] * weight[n, k] + bias[n]            as it is
//   y[t, n] = that + residual[t, n]                                     RESIDUAL
//   y[t, n] = silu(gate[t, n]) * up[t, n] of two such sums              GATED
//
// Source    none needed; SwiGLU: Shazeer 2020, https://arxiv.org/abs/2002.05202.
// Shapes    x [tokens, depth]; per part weight [rows, depth], bias [rows], y [tokens, stride], residual as y.
// Types     weight: 16 8-bit integers per vec4u; one f32 scale per 32 columns in the same buffer. Everything else f32.
// Bindings  0 params, 1 x, 2 weight, 3 bias, 4 residual, 5 y
// Dispatch  (sum of ceil(rows / 8) over parts, ceil(tokens / M), 1): eight rows by M tokens per workgroup
// Limits    depth is a multiple of 32 and at most 2^20; weight is bound as a whole buffer, so that parts can share it.
// Order     eight lanes per row, lane w sums k = 128 i + 16 w + (0 to 15) as four chains of scaled sums of four;
//           then a tree over the lanes. Fixed by depth: neither M nor the tokens beside it change a row.

override M: u32 = 8; // tokens per workgroup: 1, 2, 4 or 8
override GATED: bool = false;
override RESIDUAL: bool = false;

// One weight matrix, or the part of one that lies in this buffer.
struct Part {
  rows: u32,
  first: u32, // workgroup its rows begin at
  weight: u32, // where it begins, in units of 16 values
  scales: u32, // where its scales begin, in words
  bias: u32, // where its bias begins, in values
  up: u32, // the same three of the second matrix, if GATED
  up_scales: u32,
  up_bias: u32,
  y: u32, // where its first result goes
  stride: u32, // from token to token in y
  has_bias: u32,
  unused: u32,
}

struct Params {
  depth: u32,
  tokens: u32,
  unused0: u32,
  unused1: u32,
  parts: array<Part, 3>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read> weight: array<vec4u>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

// Per lane its share of 8 rows by 8 tokens: [token][row][lane].
var<workgroup> sums: array<f32, 512>;
var<workgroup> up_sums: array<f32, 512>;

fn across(v: vec4f) -> f32 {
  return (v.x + v.y) + (v.z + v.w);
}

// e^v to about one unit in the last place; the built-in may be off by 3 + 2 |v| units.
fn exp_exact(v: f32) -> f32 {
  let t = clamp(v, -87.0, 89.0);
  let n = round(t * 1.44269504);
  let r = fma(n, -1.42860677e-6, fma(n, -0.693145752, t));
  var p = fma(r, 1.98756915e-4, 1.39819995e-3);
  p = fma(p, r, 8.33345186e-3);
  p = fma(p, r, 4.16657962e-2);
  p = fma(p, r, 0.166666657);
  p = fma(p, r, 0.5);
  p = fma(p, r * r, r) + 1.0;
  return select(p * bitcast<f32>(u32(i32(n) + 127) << 23u), 0.0, v < -87.0);
}

fn word_at(i: u32) -> u32 {
  return weight[i / 4u][i & 3u];
}

// The scale of a lane's share, as the loop below counts them.
fn scale_at(scales: u32, j: u32) -> f32 {
  return bitcast<f32>(word_at(scales + j / 2u));
}

// Four sums of four products with x from `at` on.
fn product(word: vec4u, at: u32) -> vec4f {
  let first = vec4f(unpack4xI8(word.x)) * x[at];
  let second = fma(vec4f(unpack4xI8(word.y)), x[at + 1u], first);
  let third = fma(vec4f(unpack4xI8(word.z)), x[at + 2u], second);
  return fma(vec4f(unpack4xI8(word.w)), x[at + 3u], third);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  var p = 0u;
  if (params.parts[1].rows > 0u && group.x >= params.parts[1].first) {
    p = 1u;
  }
  if (params.parts[2].rows > 0u && group.x >= params.parts[2].first) {
    p = 2u;
  }
  let rows = params.parts[p].rows;
  let first_row = (group.x - params.parts[p].first) * 8u;
  let row = min(first_row + lane / 8u, rows - 1u);
  let way = lane & 7u;
  let quads = params.depth / 4u;
  let tile = group.y * M;
  let last = params.tokens - 1u;
  // Tokens beyond the last repeat it; their results are dropped.
  let b0 = tile * quads;
  let b1 = min(tile + 1u, last) * quads;
  let b2 = min(tile + 2u, last) * quads;
  let b3 = min(tile + 3u, last) * quads;
  let b4 = min(tile + 4u, last) * quads;
  let b5 = min(tile + 5u, last) * quads;
  let b6 = min(tile + 6u, last) * quads;
  let b7 = min(tile + 7u, last) * quads;
  let start = params.parts[p].weight + row * (params.depth / 16u);
  let up_from = params.parts[p].up + row * (params.depth / 16u);
  let scales = params.parts[p].scales + row * (params.depth / 32u);
  let up_scales = params.parts[p].up_scales + row * (params.depth / 32u);
  var a0 = vec4f();
  var a1 = vec4f();
  var a2 = vec4f();
  var a3 = vec4f();
  var a4 = vec4f();
  var a5 = vec4f();
  var a6 = vec4f();
  var a7 = vec4f();
  var c0 = vec4f();
  var c1 = vec4f();
  var c2 = vec4f();
  var c3 = vec4f();
  var c4 = vec4f();
  var c5 = vec4f();
  var c6 = vec4f();
  var c7 = vec4f();
  var j = way;
  if (M == 1u) {
    // Four loads under way at a time; the chains stay as they are.
    for (; j + 24u < quads / 4u; j += 32u) {
      let word0 = weight[start + j];
      let word1 = weight[start + j + 8u];
      let word2 = weight[start + j + 16u];
      let word3 = weight[start + j + 24u];
      a0 = fma(vec4f(scale_at(scales, j)), product(word0, b0 + 4u * j), a0);
      a0 = fma(vec4f(scale_at(scales, j + 8u)), product(word1, b0 + 4u * (j + 8u)), a0);
      a0 = fma(vec4f(scale_at(scales, j + 16u)), product(word2, b0 + 4u * (j + 16u)), a0);
      a0 = fma(vec4f(scale_at(scales, j + 24u)), product(word3, b0 + 4u * (j + 24u)), a0);
      if (GATED) {
        let up0 = weight[up_from + j];
        let up1 = weight[up_from + j + 8u];
        let up2 = weight[up_from + j + 16u];
        let up3 = weight[up_from + j + 24u];
        c0 = fma(vec4f(scale_at(up_scales, j)), product(up0, b0 + 4u * j), c0);
        c0 = fma(vec4f(scale_at(up_scales, j + 8u)), product(up1, b0 + 4u * (j + 8u)), c0);
        c0 = fma(vec4f(scale_at(up_scales, j + 16u)), product(up2, b0 + 4u * (j + 16u)), c0);
        c0 = fma(vec4f(scale_at(up_scales, j + 24u)), product(up3, b0 + 4u * (j + 24u)), c0);
      }
    }
  }
  for (; j < quads / 4u; j += 8u) {
    let word = weight[start + j];
    let scale = bitcast<f32>(word_at(scales + j / 2u));
    let w0 = vec4f(unpack4xI8(word.x));
    let w1 = vec4f(unpack4xI8(word.y));
    let w2 = vec4f(unpack4xI8(word.z));
    let w3 = vec4f(unpack4xI8(word.w));
    var u0 = vec4f();
    var u1 = vec4f();
    var u2 = vec4f();
    var u3 = vec4f();
    var up_scale = 0.0;
    if (GATED) {
      let up_word = weight[up_from + j];
      up_scale = bitcast<f32>(word_at(up_scales + j / 2u));
      u0 = vec4f(unpack4xI8(up_word.x));
      u1 = vec4f(unpack4xI8(up_word.y));
      u2 = vec4f(unpack4xI8(up_word.z));
      u3 = vec4f(unpack4xI8(up_word.w));
    }
    let x00 = x[b0 + 4u * j];
    let x01 = x[b0 + 4u * j + 1u];
    let x02 = x[b0 + 4u * j + 2u];
    let x03 = x[b0 + 4u * j + 3u];
    a0 = fma(vec4f(scale), fma(w3, x03, fma(w2, x02, fma(w1, x01, w0 * x00))), a0);
    if (GATED) {
      c0 = fma(vec4f(up_scale), fma(u3, x03, fma(u2, x02, fma(u1, x01, u0 * x00))), c0);
    }
    if (M > 1u) {
      let x10 = x[b1 + 4u * j];
      let x11 = x[b1 + 4u * j + 1u];
      let x12 = x[b1 + 4u * j + 2u];
      let x13 = x[b1 + 4u * j + 3u];
      a1 = fma(vec4f(scale), fma(w3, x13, fma(w2, x12, fma(w1, x11, w0 * x10))), a1);
      if (GATED) {
        c1 = fma(vec4f(up_scale), fma(u3, x13, fma(u2, x12, fma(u1, x11, u0 * x10))), c1);
      }
    }
    if (M > 2u) {
      let x20 = x[b2 + 4u * j];
      let x21 = x[b2 + 4u * j + 1u];
      let x22 = x[b2 + 4u * j + 2u];
      let x23 = x[b2 + 4u * j + 3u];
      a2 = fma(vec4f(scale), fma(w3, x23, fma(w2, x22, fma(w1, x21, w0 * x20))), a2);
      if (GATED) {
        c2 = fma(vec4f(up_scale), fma(u3, x23, fma(u2, x22, fma(u1, x21, u0 * x20))), c2);
      }
      let x30 = x[b3 + 4u * j];
      let x31 = x[b3 + 4u * j + 1u];
      let x32 = x[b3 + 4u * j + 2u];
      let x33 = x[b3 + 4u * j + 3u];
      a3 = fma(vec4f(scale), fma(w3, x33, fma(w2, x32, fma(w1, x31, w0 * x30))), a3);
      if (GATED) {
        c3 = fma(vec4f(up_scale), fma(u3, x33, fma(u2, x32, fma(u1, x31, u0 * x30))), c3);
      }
    }
    if (M > 4u) {
      let x40 = x[b4 + 4u * j];
      let x41 = x[b4 + 4u * j + 1u];
      let x42 = x[b4 + 4u * j + 2u];
      let x43 = x[b4 + 4u * j + 3u];
      a4 = fma(vec4f(scale), fma(w3, x43, fma(w2, x42, fma(w1, x41, w0 * x40))), a4);
      if (GATED) {
        c4 = fma(vec4f(up_scale), fma(u3, x43, fma(u2, x42, fma(u1, x41, u0 * x40))), c4);
      }
      let x50 = x[b5 + 4u * j];
      let x51 = x[b5 + 4u * j + 1u];
      let x52 = x[b5 + 4u * j + 2u];
      let x53 = x[b5 + 4u * j + 3u];
      a5 = fma(vec4f(scale), fma(w3, x53, fma(w2, x52, fma(w1, x51, w0 * x50))), a5);
      if (GATED) {
        c5 = fma(vec4f(up_scale), fma(u3, x53, fma(u2, x52, fma(u1, x51, u0 * x50))), c5);
      }
      let x60 = x[b6 + 4u * j];
      let x61 = x[b6 + 4u * j + 1u];
      let x62 = x[b6 + 4u * j + 2u];
      let x63 = x[b6 + 4u * j + 3u];
      a6 = fma(vec4f(scale), fma(w3, x63, fma(w2, x62, fma(w1, x61, w0 * x60))), a6);
      if (GATED) {
        c6 = fma(vec4f(up_scale), fma(u3, x63, fma(u2, x62, fma(u1, x61, u0 * x60))), c6);
      }
      let x70 = x[b7 + 4u * j];
      let x71 = x[b7 + 4u * j + 1u];
      let x72 = x[b7 + 4u * j + 2u];
      let x73 = x[b7 + 4u * j + 3u];
      a7 = fma(vec4f(scale), fma(w3, x73, fma(w2, x72, fma(w1, x71, w0 * x70))), a7);
      if (GATED) {
        c7 = fma(vec4f(up_scale), fma(u3, x73, fma(u2, x72, fma(u1, x71, u0 * x70))), c7);
      }
    }
  }
  sums[0u + lane] = across(a0);
  if (M > 1u) {
    sums[64u + lane] = across(a1);
  }
  if (M > 2u) {
    sums[128u + lane] = across(a2);
    sums[192u + lane] = across(a3);
  }
  if (M > 4u) {
    sums[256u + lane] = across(a4);
    sums[320u + lane] = across(a5);
    sums[384u + lane] = across(a6);
    sums[448u + lane] = across(a7);
  }
  if (GATED) {
    up_sums[0u + lane] = across(c0);
    if (M > 1u) {
      up_sums[64u + lane] = across(c1);
    }
    if (M > 2u) {
      up_sums[128u + lane] = across(c2);
      up_sums[192u + lane] = across(c3);
    }
    if (M > 4u) {
      up_sums[256u + lane] = across(c4);
      up_sums[320u + lane] = across(c5);
      up_sums[384u + lane] = across(c6);
      up_sums[448u + lane] = across(c7);
    }
  }
  workgroupBarrier();
  // Every lane finishes one of the 64 results.
  let token = tile + lane / 8u;
  let n = first_row + (lane & 7u);
  if (lane < M * 8u && token < params.tokens && n < rows) {
    let at = lane * 8u;
    var sum = ((sums[at] + sums[at + 1u]) + (sums[at + 2u] + sums[at + 3u])) +
      ((sums[at + 4u] + sums[at + 5u]) + (sums[at + 6u] + sums[at + 7u]));
    if (params.parts[p].has_bias == 1u) {
      sum += bias[params.parts[p].bias + n];
    }
    if (GATED) {
      var up = ((up_sums[at] + up_sums[at + 1u]) + (up_sums[at + 2u] + up_sums[at + 3u])) +
        ((up_sums[at + 4u] + up_sums[at + 5u]) + (up_sums[at + 6u] + up_sums[at + 7u]));
      if (params.parts[p].has_bias == 1u) {
        up += bias[params.parts[p].up_bias + n];
      }
      sum = sum / (1.0 + exp_exact(-sum)) * up;
    }
    let to = params.parts[p].y + token * params.parts[p].stride + n;
    if (RESIDUAL) {
      sum = sum + residual[token * params.parts[p].stride + n];
    }
    y[to] = sum;
  }
}
