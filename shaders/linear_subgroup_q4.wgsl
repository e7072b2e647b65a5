// linear_subgroup_q4: linear_q4 for one token, where lanes can pass each other values.
//
//   y[n] = sum over k of x[k] * weight[n, k] + bias[n]            as it is
//   y[n] = that + residual[n]                                     RESIDUAL
//   y[n] = silu(gate[n]) * up[n] of two such sums              GATED
//
// Source    none needed; SwiGLU: Shazeer 2020, https://arxiv.org/abs/2002.05202.
// Shapes    x [1, depth]; per part weight [rows, depth], bias [rows], y [1, stride], residual as y.
// Types     weight: 32 4-bit integers plus 8 per vec4u, columns 0 to 3 of eight in the low and 4 to 7 in the high halves of a word's bytes;
//           one f32 scale per 32 columns in the same buffer. Everything else f32.
// Bindings  0 params, 1 x, 2 weight, 3 bias, 4 residual, 5 y
// Dispatch  (sum of ceil(rows / 8) over parts, 1, 1): eight rows per workgroup
// Limits    depth is a multiple of 32 and at most 2^20; weight is bound as a whole buffer, so that parts can share it.
//           Subgroups of at least 8 lanes in the order of the workgroup, as the probe in subgroups.ts finds out.
// Order     that of linear_q4, to the bit: eight lanes per row, lane w sums k = 256 i + 32 w + (0 to 31) as four chains of scaled sums of eight;
//           then a tree over the lanes. Fixed by depth: how many lanes a subgroup has changes nothing.

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

// The sum over eight lanes, which each of them gets: the tree of linear_q4, since a + b = b + a to the bit.
fn over_eight(v: f32) -> f32 {
  let pairs = v + subgroupShuffleXor(v, 1u);
  let fours = pairs + subgroupShuffleXor(pairs, 2u);
  return fours + subgroupShuffleXor(fours, 4u);
}

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
  let start = params.parts[p].weight + row * (params.depth / 32u);
  let up_from = params.parts[p].up + row * (params.depth / 32u);
  let scales = params.parts[p].scales + row * (params.depth / 32u);
  let up_scales = params.parts[p].up_scales + row * (params.depth / 32u);
  var a0 = vec4f();
  var c0 = vec4f();
  var j = way;
  // Four loads under way at a time; the chains stay as they are.
  for (; j + 24u < quads / 8u; j += 32u) {
    let word0 = weight[start + j];
    let word1 = weight[start + j + 8u];
    let word2 = weight[start + j + 16u];
    let word3 = weight[start + j + 24u];
    a0 = fma(vec4f(scale_at(scales, j)), product(word0, 8u * j), a0);
    a0 = fma(vec4f(scale_at(scales, j + 8u)), product(word1, 8u * (j + 8u)), a0);
    a0 = fma(vec4f(scale_at(scales, j + 16u)), product(word2, 8u * (j + 16u)), a0);
    a0 = fma(vec4f(scale_at(scales, j + 24u)), product(word3, 8u * (j + 24u)), a0);
    if (GATED) {
      let up0 = weight[up_from + j];
      let up1 = weight[up_from + j + 8u];
      let up2 = weight[up_from + j + 16u];
      let up3 = weight[up_from + j + 24u];
      c0 = fma(vec4f(scale_at(up_scales, j)), product(up0, 8u * j), c0);
      c0 = fma(vec4f(scale_at(up_scales, j + 8u)), product(up1, 8u * (j + 8u)), c0);
      c0 = fma(vec4f(scale_at(up_scales, j + 16u)), product(up2, 8u * (j + 16u)), c0);
      c0 = fma(vec4f(scale_at(up_scales, j + 24u)), product(up3, 8u * (j + 24u)), c0);
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
    let x00 = x[8u * j + 0u];
    let x01 = x[8u * j + 1u];
    let x02 = x[8u * j + 2u];
    let x03 = x[8u * j + 3u];
    let x04 = x[8u * j + 4u];
    let x05 = x[8u * j + 5u];
    let x06 = x[8u * j + 6u];
    let x07 = x[8u * j + 7u];
    a0 = fma(vec4f(scale), fma(w7, x07, fma(w6, x06, fma(w5, x05, fma(w4, x04, fma(w3, x03, fma(w2, x02, fma(w1, x01, w0 * x00))))))), a0);
    if (GATED) {
      c0 = fma(vec4f(up_scale), fma(u7, x07, fma(u6, x06, fma(u5, x05, fma(u4, x04, fma(u3, x03, fma(u2, x02, fma(u1, x01, u0 * x00))))))), c0);
    }
  }
  // All lanes come by here; every eighth one finishes a result.
  var sum = over_eight(across(a0));
  var up = 0.0;
  if (GATED) {
    up = over_eight(across(c0));
  }
  let n = first_row + lane / 8u;
  if (way == 0u && n < rows) {
    if (params.parts[p].has_bias == 1u) {
      sum += bias[params.parts[p].bias + n];
    }
    if (GATED) {
      if (params.parts[p].has_bias == 1u) {
        up += bias[params.parts[p].up_bias + n];
      }
      sum = sum / (1.0 + exp_exact(-sum)) * up;
    }
    if (RESIDUAL) {
      sum = sum + residual[n];
    }
    y[params.parts[p].y + n] = sum;
  }
}
