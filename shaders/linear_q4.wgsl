// linear_q4: x times the transpose of up to three weight matrices in 4 bits, with what follows fused in.
//
//   y[t, n] = sum over k of x[t, k] * weight[n, k] + bias[n]            as it is
//   y[t, n] = that + residual[t, n]                                     RESIDUAL
//   y[t, n] = silu(gate[t, n]) * up[t, n] of two such sums              GATED
//
// Source    none needed; SwiGLU: Shazeer 2020, https://arxiv.org/abs/2002.05202.
// Shapes    x [tokens, depth]; per part weight [rows, depth], bias [rows], y [tokens, stride], residual as y.
// Types     weight: 32 4-bit integers plus 8 per vec4u, columns 0 to 3 of eight in the low and 4 to 7 in the high halves of a word's bytes;
//           one f32 scale per 32 columns in the same buffer. Everything else f32.
// Bindings  0 params, 1 x, 2 weight, 3 bias, 4 residual, 5 y
// Dispatch  (sum of ceil(rows / 8) over parts, ceil(tokens / M), 1): eight rows by M tokens per workgroup
// Limits    depth is a multiple of 32 and at most 2^20; weight is bound as a whole buffer, so that parts can share it.
// Order     eight lanes per row, lane w sums k = 256 i + 32 w + (0 to 31) as four chains of scaled sums of eight;
//           then a tree over the lanes. Fixed by depth: neither M nor the tokens beside it change a row.

override M: u32 = 8; // tokens per workgroup: 1, 2, 4 or 8
override GATED: bool = false;
override RESIDUAL: bool = false;

// One weight matrix, or the part of one that lies in this buffer.
struct Part {
  rows: u32,
  first: u32, // workgroup its rows begin at
  weight: u32, // where it begins, in units of 32 values
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

// Four integers from the low halves of a word's bytes.
fn low(word: u32) -> vec4f {
  return vec4f(unpack4xU8(word & 0x0f0f0f0fu)) - 8.0;
}

// The scale of a lane's share, as the loop below counts them.
fn scale_at(scales: u32, j: u32) -> f32 {
  return bitcast<f32>(word_at(scales + j));
}

// Four sums of eight products with x from `at` on.
fn product(word: vec4u, at: u32) -> vec4f {
  var sum = low(word.x) * x[at];
  sum = fma(low(word.x >> 4u), x[at + 1u], sum);
  sum = fma(low(word.y), x[at + 2u], sum);
  sum = fma(low(word.y >> 4u), x[at + 3u], sum);
  sum = fma(low(word.z), x[at + 4u], sum);
  sum = fma(low(word.z >> 4u), x[at + 5u], sum);
  sum = fma(low(word.w), x[at + 6u], sum);
  return fma(low(word.w >> 4u), x[at + 7u], sum);
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
  let start = params.parts[p].weight + row * (params.depth / 32u);
  let up_from = params.parts[p].up + row * (params.depth / 32u);
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
    for (; j + 24u < quads / 8u; j += 32u) {
      let word0 = weight[start + j];
      let word1 = weight[start + j + 8u];
      let word2 = weight[start + j + 16u];
      let word3 = weight[start + j + 24u];
      a0 = fma(vec4f(scale_at(scales, j)), product(word0, b0 + 8u * j), a0);
      a0 = fma(vec4f(scale_at(scales, j + 8u)), product(word1, b0 + 8u * (j + 8u)), a0);
      a0 = fma(vec4f(scale_at(scales, j + 16u)), product(word2, b0 + 8u * (j + 16u)), a0);
      a0 = fma(vec4f(scale_at(scales, j + 24u)), product(word3, b0 + 8u * (j + 24u)), a0);
      if (GATED) {
        let up0 = weight[up_from + j];
        let up1 = weight[up_from + j + 8u];
        let up2 = weight[up_from + j + 16u];
        let up3 = weight[up_from + j + 24u];
        c0 = fma(vec4f(scale_at(up_scales, j)), product(up0, b0 + 8u * j), c0);
        c0 = fma(vec4f(scale_at(up_scales, j + 8u)), product(up1, b0 + 8u * (j + 8u)), c0);
        c0 = fma(vec4f(scale_at(up_scales, j + 16u)), product(up2, b0 + 8u * (j + 16u)), c0);
        c0 = fma(vec4f(scale_at(up_scales, j + 24u)), product(up3, b0 + 8u * (j + 24u)), c0);
      }
    }
  }
  for (; j < quads / 8u; j += 8u) {
    let word = weight[start + j];
    let scale = bitcast<f32>(word_at(scales + j));
    let w0 = low(word.x);
    let w1 = low(word.x >> 4u);
    let w2 = low(word.y);
    let w3 = low(word.y >> 4u);
    let w4 = low(word.z);
    let w5 = low(word.z >> 4u);
    let w6 = low(word.w);
    let w7 = low(word.w >> 4u);
    var u0 = vec4f();
    var u1 = vec4f();
    var u2 = vec4f();
    var u3 = vec4f();
    var u4 = vec4f();
    var u5 = vec4f();
    var u6 = vec4f();
    var u7 = vec4f();
    var up_scale = 0.0;
    if (GATED) {
      let up_word = weight[up_from + j];
      up_scale = bitcast<f32>(word_at(up_scales + j));
      u0 = low(up_word.x);
      u1 = low(up_word.x >> 4u);
      u2 = low(up_word.y);
      u3 = low(up_word.y >> 4u);
      u4 = low(up_word.z);
      u5 = low(up_word.z >> 4u);
      u6 = low(up_word.w);
      u7 = low(up_word.w >> 4u);
    }
    let x00 = x[b0 + 8u * j + 0u];
    let x01 = x[b0 + 8u * j + 1u];
    let x02 = x[b0 + 8u * j + 2u];
    let x03 = x[b0 + 8u * j + 3u];
    let x04 = x[b0 + 8u * j + 4u];
    let x05 = x[b0 + 8u * j + 5u];
    let x06 = x[b0 + 8u * j + 6u];
    let x07 = x[b0 + 8u * j + 7u];
    a0 = fma(vec4f(scale), fma(w7, x07, fma(w6, x06, fma(w5, x05, fma(w4, x04, fma(w3, x03, fma(w2, x02, fma(w1, x01, w0 * x00))))))), a0);
    if (GATED) {
      c0 = fma(vec4f(up_scale), fma(u7, x07, fma(u6, x06, fma(u5, x05, fma(u4, x04, fma(u3, x03, fma(u2, x02, fma(u1, x01, u0 * x00))))))), c0);
    }
    if (M > 1u) {
      let x10 = x[b1 + 8u * j + 0u];
      let x11 = x[b1 + 8u * j + 1u];
      let x12 = x[b1 + 8u * j + 2u];
      let x13 = x[b1 + 8u * j + 3u];
      let x14 = x[b1 + 8u * j + 4u];
      let x15 = x[b1 + 8u * j + 5u];
      let x16 = x[b1 + 8u * j + 6u];
      let x17 = x[b1 + 8u * j + 7u];
      a1 = fma(vec4f(scale), fma(w7, x17, fma(w6, x16, fma(w5, x15, fma(w4, x14, fma(w3, x13, fma(w2, x12, fma(w1, x11, w0 * x10))))))), a1);
      if (GATED) {
        c1 = fma(vec4f(up_scale), fma(u7, x17, fma(u6, x16, fma(u5, x15, fma(u4, x14, fma(u3, x13, fma(u2, x12, fma(u1, x11, u0 * x10))))))), c1);
      }
    }
    if (M > 2u) {
      let x20 = x[b2 + 8u * j + 0u];
      let x21 = x[b2 + 8u * j + 1u];
      let x22 = x[b2 + 8u * j + 2u];
      let x23 = x[b2 + 8u * j + 3u];
      let x24 = x[b2 + 8u * j + 4u];
      let x25 = x[b2 + 8u * j + 5u];
      let x26 = x[b2 + 8u * j + 6u];
      let x27 = x[b2 + 8u * j + 7u];
      a2 = fma(vec4f(scale), fma(w7, x27, fma(w6, x26, fma(w5, x25, fma(w4, x24, fma(w3, x23, fma(w2, x22, fma(w1, x21, w0 * x20))))))), a2);
      if (GATED) {
        c2 = fma(vec4f(up_scale), fma(u7, x27, fma(u6, x26, fma(u5, x25, fma(u4, x24, fma(u3, x23, fma(u2, x22, fma(u1, x21, u0 * x20))))))), c2);
      }
      let x30 = x[b3 + 8u * j + 0u];
      let x31 = x[b3 + 8u * j + 1u];
      let x32 = x[b3 + 8u * j + 2u];
      let x33 = x[b3 + 8u * j + 3u];
      let x34 = x[b3 + 8u * j + 4u];
      let x35 = x[b3 + 8u * j + 5u];
      let x36 = x[b3 + 8u * j + 6u];
      let x37 = x[b3 + 8u * j + 7u];
      a3 = fma(vec4f(scale), fma(w7, x37, fma(w6, x36, fma(w5, x35, fma(w4, x34, fma(w3, x33, fma(w2, x32, fma(w1, x31, w0 * x30))))))), a3);
      if (GATED) {
        c3 = fma(vec4f(up_scale), fma(u7, x37, fma(u6, x36, fma(u5, x35, fma(u4, x34, fma(u3, x33, fma(u2, x32, fma(u1, x31, u0 * x30))))))), c3);
      }
    }
    if (M > 4u) {
      let x40 = x[b4 + 8u * j + 0u];
      let x41 = x[b4 + 8u * j + 1u];
      let x42 = x[b4 + 8u * j + 2u];
      let x43 = x[b4 + 8u * j + 3u];
      let x44 = x[b4 + 8u * j + 4u];
      let x45 = x[b4 + 8u * j + 5u];
      let x46 = x[b4 + 8u * j + 6u];
      let x47 = x[b4 + 8u * j + 7u];
      a4 = fma(vec4f(scale), fma(w7, x47, fma(w6, x46, fma(w5, x45, fma(w4, x44, fma(w3, x43, fma(w2, x42, fma(w1, x41, w0 * x40))))))), a4);
      if (GATED) {
        c4 = fma(vec4f(up_scale), fma(u7, x47, fma(u6, x46, fma(u5, x45, fma(u4, x44, fma(u3, x43, fma(u2, x42, fma(u1, x41, u0 * x40))))))), c4);
      }
      let x50 = x[b5 + 8u * j + 0u];
      let x51 = x[b5 + 8u * j + 1u];
      let x52 = x[b5 + 8u * j + 2u];
      let x53 = x[b5 + 8u * j + 3u];
      let x54 = x[b5 + 8u * j + 4u];
      let x55 = x[b5 + 8u * j + 5u];
      let x56 = x[b5 + 8u * j + 6u];
      let x57 = x[b5 + 8u * j + 7u];
      a5 = fma(vec4f(scale), fma(w7, x57, fma(w6, x56, fma(w5, x55, fma(w4, x54, fma(w3, x53, fma(w2, x52, fma(w1, x51, w0 * x50))))))), a5);
      if (GATED) {
        c5 = fma(vec4f(up_scale), fma(u7, x57, fma(u6, x56, fma(u5, x55, fma(u4, x54, fma(u3, x53, fma(u2, x52, fma(u1, x51, u0 * x50))))))), c5);
      }
      let x60 = x[b6 + 8u * j + 0u];
      let x61 = x[b6 + 8u * j + 1u];
      let x62 = x[b6 + 8u * j + 2u];
      let x63 = x[b6 + 8u * j + 3u];
      let x64 = x[b6 + 8u * j + 4u];
      let x65 = x[b6 + 8u * j + 5u];
      let x66 = x[b6 + 8u * j + 6u];
      let x67 = x[b6 + 8u * j + 7u];
      a6 = fma(vec4f(scale), fma(w7, x67, fma(w6, x66, fma(w5, x65, fma(w4, x64, fma(w3, x63, fma(w2, x62, fma(w1, x61, w0 * x60))))))), a6);
      if (GATED) {
        c6 = fma(vec4f(up_scale), fma(u7, x67, fma(u6, x66, fma(u5, x65, fma(u4, x64, fma(u3, x63, fma(u2, x62, fma(u1, x61, u0 * x60))))))), c6);
      }
      let x70 = x[b7 + 8u * j + 0u];
      let x71 = x[b7 + 8u * j + 1u];
      let x72 = x[b7 + 8u * j + 2u];
      let x73 = x[b7 + 8u * j + 3u];
      let x74 = x[b7 + 8u * j + 4u];
      let x75 = x[b7 + 8u * j + 5u];
      let x76 = x[b7 + 8u * j + 6u];
      let x77 = x[b7 + 8u * j + 7u];
      a7 = fma(vec4f(scale), fma(w7, x77, fma(w6, x76, fma(w5, x75, fma(w4, x74, fma(w3, x73, fma(w2, x72, fma(w1, x71, w0 * x70))))))), a7);
      if (GATED) {
        c7 = fma(vec4f(up_scale), fma(u7, x77, fma(u6, x76, fma(u5, x75, fma(u4, x74, fma(u3, x73, fma(u2, x72, fma(u1, x71, u0 * x70))))))), c7);
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
