// linear_tile_f16: linear_f16 for many tokens: 32 rows by 16 tokens at a time, tiles of both in workgroup memory.
//
//   y[t, n] = sum over k of x[t, k] * weight[n, k] + bias[n]            as it is
//   y[t, n] = that + residual[t, n]                                     RESIDUAL
//   y[t, n] = silu(gate[t, n]) * up[t, n] of two such sums              GATED
//
// Source    none needed; SwiGLU: Shazeer 2020, https://arxiv.org/abs/2002.05202.
// Shapes    x [tokens, depth]; per part weight [rows, depth], bias [rows], y [tokens, stride], residual as y.
// Types     weight: f16 pairs in u32 words, unpacked without the f16 feature. Everything else f32.
// Bindings  0 params, 1 x, 2 weight, 3 bias, 4 residual, 5 y
// Dispatch  (ceil(tokens / 16), sum of ceil(rows / 32) over parts, 1), of ceil(rows / 16) if GATED: 32 rows, of one matrix or
//           half of each, by 16 tokens per workgroup; tokens first, so that neighbours share weights
// Limits    depth is a multiple of 4 and at most 2^20; weight is bound as a whole buffer, so that parts can share it.
//           16 KiB of workgroup memory, 256 lanes: what every device has.
// Order     that of linear_f16, to the bit: eight lanes per result, lane w sums k = 32 i + 4 w + (0 to 3) as four chains;
//           then a tree over the lanes. A lane has four rows by four tokens, which changes no chain.

override GATED: bool = false;
override RESIDUAL: bool = false;

// One weight matrix, or the part of one that lies in this buffer.
struct Part {
  rows: u32,
  first: u32, // workgroup its rows begin at
  weight: u32, // where it begins, in units of 4 values
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
@group(0) @binding(2) var<storage, read> weight: array<vec2u>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

// 32 rows and 16 tokens by 64 values of depth, in quads.
var<workgroup> w_tile: array<vec4f, 512>;
var<workgroup> x_tile: array<vec4f, 256>;

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

fn unpack(pairs: vec2u) -> vec4f {
  return vec4f(unpack2x16float(pairs.x), unpack2x16float(pairs.y));
}

// The part a workgroup computes.
fn part_of(group: u32) -> u32 {
  if (params.parts[2].rows > 0u && group >= params.parts[2].first) {
    return 2u;
  }
  return select(0u, 1u, params.parts[1].rows > 0u && group >= params.parts[1].first);
}

// The eight lanes' sums of one result: component r of what lanes `at` to at + 7 have put.
fn tree(at: u32, r: u32) -> f32 {
  return ((w_tile[at][r] + w_tile[at + 1u][r]) + (w_tile[at + 2u][r] + w_tile[at + 3u][r])) +
    ((w_tile[at + 4u][r] + w_tile[at + 5u][r]) + (w_tile[at + 6u][r] + w_tile[at + 7u][r]));
}

// Every fourth token of the tile, from t on; the lanes' sums are in the tile of weights.
fn finish(lane: u32, p: u32, first_row: u32, tile: u32, t: u32) {
  let o = select(lane & 31u, lane & 15u, GATED);
  let tokens_of = select(lane / 32u, lane / 16u, GATED);
  let rows_of = select(o / 4u, o / 2u, GATED);
  let r = select(o & 3u, o & 1u, GATED);
  let token = tile + tokens_of * 4u + t;
  let n = first_row + o;
  if (lane >= select(128u, 64u, GATED) || token >= params.tokens || n >= params.parts[p].rows) {
    return;
  }
  // The lanes that have computed it, see main.
  let at = 8u * ((rows_of & 1u) | ((tokens_of & 1u) << 1u) | ((rows_of / 2u) << 2u) | ((tokens_of / 2u) << 4u));
  var sum = tree(at, r);
  if (params.parts[p].has_bias == 1u) {
    sum += bias[params.parts[p].bias + n];
  }
  if (GATED) {
    var up = tree(at, r + 2u);
    if (params.parts[p].has_bias == 1u) {
      up += bias[params.parts[p].up_bias + n];
    }
    sum = sum / (1.0 + exp_exact(-sum)) * up;
  }
  let to = token * params.parts[p].stride + n;
  if (RESIDUAL) {
    sum = sum + residual[to];
  }
  y[params.parts[p].y + to] = sum;
}

// Where a row of the tile begins. If GATED, of four rows two are of the first matrix and two the same of the second.
fn row_start(p: u32, first_row: u32, row: u32) -> u32 {
  let n = first_row + select(row, (row / 4u) * 2u + (row & 1u), GATED);
  let base = select(params.parts[p].weight, params.parts[p].up, GATED && (row & 2u) != 0u);
  return base + min(n, params.parts[p].rows - 1u) * (params.depth / 4u);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let p = part_of(group.y);
  let first_row = (group.y - params.parts[p].first) * select(32u, 16u, GATED);
  let tile = group.x * 16u;
  let quads = params.depth / 4u;
  let way = lane & 7u;
  // Eight groups of rows by four of tokens; in each run of 32 lanes two by two, which share what they read.
  let m = lane / 8u;
  let rows_of = (m & 1u) | (((m >> 2u) & 3u) << 1u);
  let tokens_of = ((m >> 1u) & 1u) | ((m >> 4u) << 1u);
  // What this lane brings: one quad of two rows and of one token. Tokens beyond the last repeat it.
  let column = lane & 15u;
  let from0 = row_start(p, first_row, lane / 16u) + column;
  let from1 = row_start(p, first_row, lane / 16u + 16u) + column;
  let x_from = min(tile + lane / 16u, params.tokens - 1u) * quads + column;
  let w_at = rows_of * 64u + way;
  let x_at = tokens_of * 64u + way;
  var a00 = vec4f();
  var a01 = vec4f();
  var a02 = vec4f();
  var a03 = vec4f();
  var a10 = vec4f();
  var a11 = vec4f();
  var a12 = vec4f();
  var a13 = vec4f();
  var a20 = vec4f();
  var a21 = vec4f();
  var a22 = vec4f();
  var a23 = vec4f();
  var a30 = vec4f();
  var a31 = vec4f();
  var a32 = vec4f();
  var a33 = vec4f();
  var w0 = weight[from0];
  var w1 = weight[from1];
  var x0 = x[x_from];
  let stages = (quads + 15u) / 16u;
  for (var stage = 0u; stage < stages; stage++) {
    let base = stage * 16u;
    w_tile[lane] = unpack(w0);
    w_tile[lane + 256u] = unpack(w1);
    x_tile[lane] = x0;
    workgroupBarrier();
    // The next tile is under way while this one is computed. What lies beyond the end is not used.
    let next = select(0u, base + 16u, base + 16u + column < quads);
    w0 = weight[from0 + next];
    w1 = weight[from1 + next];
    x0 = x[x_from + next];
    if (base + 0u + way < quads) {
      let v0 = w_tile[w_at + 0u];
      let v1 = w_tile[w_at + 16u];
      let v2 = w_tile[w_at + 32u];
      let v3 = w_tile[w_at + 48u];
      let u0 = x_tile[x_at + 0u];
      a00 = fma(v0, u0, a00);
      a10 = fma(v1, u0, a10);
      a20 = fma(v2, u0, a20);
      a30 = fma(v3, u0, a30);
      let u1 = x_tile[x_at + 16u];
      a01 = fma(v0, u1, a01);
      a11 = fma(v1, u1, a11);
      a21 = fma(v2, u1, a21);
      a31 = fma(v3, u1, a31);
      let u2 = x_tile[x_at + 32u];
      a02 = fma(v0, u2, a02);
      a12 = fma(v1, u2, a12);
      a22 = fma(v2, u2, a22);
      a32 = fma(v3, u2, a32);
      let u3 = x_tile[x_at + 48u];
      a03 = fma(v0, u3, a03);
      a13 = fma(v1, u3, a13);
      a23 = fma(v2, u3, a23);
      a33 = fma(v3, u3, a33);
    }
    if (base + 8u + way < quads) {
      let v0 = w_tile[w_at + 8u];
      let v1 = w_tile[w_at + 24u];
      let v2 = w_tile[w_at + 40u];
      let v3 = w_tile[w_at + 56u];
      let u0 = x_tile[x_at + 8u];
      a00 = fma(v0, u0, a00);
      a10 = fma(v1, u0, a10);
      a20 = fma(v2, u0, a20);
      a30 = fma(v3, u0, a30);
      let u1 = x_tile[x_at + 24u];
      a01 = fma(v0, u1, a01);
      a11 = fma(v1, u1, a11);
      a21 = fma(v2, u1, a21);
      a31 = fma(v3, u1, a31);
      let u2 = x_tile[x_at + 40u];
      a02 = fma(v0, u2, a02);
      a12 = fma(v1, u2, a12);
      a22 = fma(v2, u2, a22);
      a32 = fma(v3, u2, a32);
      let u3 = x_tile[x_at + 56u];
      a03 = fma(v0, u3, a03);
      a13 = fma(v1, u3, a13);
      a23 = fma(v2, u3, a23);
      a33 = fma(v3, u3, a33);
    }
    workgroupBarrier();
  }
  w_tile[lane] = vec4f(across(a00), across(a10), across(a20), across(a30));
  workgroupBarrier();
  finish(lane, p, first_row, tile, 0u);
  workgroupBarrier();
  w_tile[lane] = vec4f(across(a01), across(a11), across(a21), across(a31));
  workgroupBarrier();
  finish(lane, p, first_row, tile, 1u);
  workgroupBarrier();
  w_tile[lane] = vec4f(across(a02), across(a12), across(a22), across(a32));
  workgroupBarrier();
  finish(lane, p, first_row, tile, 2u);
  workgroupBarrier();
  w_tile[lane] = vec4f(across(a03), across(a13), across(a23), across(a33));
  workgroupBarrier();
  finish(lane, p, first_row, tile, 3u);
}
