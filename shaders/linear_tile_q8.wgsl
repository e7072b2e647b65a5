// linear_tile_q8: linear_q8 for many tokens: 16 rows by 16 tokens at a time, tiles of both in workgroup memory.
//
//   y[t, n] = sum over k of x[t, k] * weight[n, k] + bias[n]            as it is
//   y[t, n] = that + residual[t, n]                                     RESIDUAL
//   y[t, n] = silu(gate[t, n]) * up[t, n] of two such sums              GATED
//
// Source    none needed; SwiGLU: Shazeer 2020, https://arxiv.org/abs/2002.05202.
// Shapes    x [tokens, depth]; per part weight [rows, depth], bias [rows], y [tokens, stride], residual as y.
// Types     weight: 16 8-bit integers per vec4u; one f32 scale per 32 columns in the same buffer. Everything else f32.
// Bindings  0 params, 1 x, 2 weight, 3 bias, 4 residual, 5 y
// Dispatch  (ceil(tokens / 16), sum of ceil(rows / 16) over parts, 1), of ceil(rows / 8) if GATED: 16 rows, of one matrix or
//           half of each, by 16 tokens per workgroup; tokens first, so that neighbours share weights
// Limits    depth is a multiple of 32 and at most 2^20; weight is bound as a whole buffer, so that parts can share it.
//           16 KiB of workgroup memory, 256 lanes: what every device has.
// Order     that of linear_q8, to the bit: eight lanes per result, lane w sums k = 128 i + 16 w + (0 to 15) as four chains of scaled sums of four;
//           then a tree over the lanes. A lane has two rows by four tokens, which changes no chain.

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

// 16 rows and 16 tokens by 128 values of depth: quads s = 0 to 3 of each of the eight lanes, [row or token][s][lane].
var<workgroup> w_tile: array<vec4f, 512>;
var<workgroup> x_tile: array<vec4f, 512>;

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
  let o = select(lane & 15u, lane & 7u, GATED);
  let tokens_of = select(lane / 16u, lane / 8u, GATED);
  let rows_of = select(o / 2u, o, GATED);
  let r = select(o & 1u, 0u, GATED);
  let token = tile + tokens_of * 4u + t;
  let n = first_row + o;
  if (lane >= select(64u, 32u, GATED) || token >= params.tokens || n >= params.parts[p].rows) {
    return;
  }
  // The lanes that have computed it, see main.
  let at = 8u * ((rows_of & 1u) | ((tokens_of & 1u) << 1u) | ((rows_of / 2u) << 2u) | ((tokens_of / 2u) << 4u));
  var sum = tree(at, r);
  if (params.parts[p].has_bias == 1u) {
    sum += bias[params.parts[p].bias + n];
  }
  if (GATED) {
    var up = tree(at, 1u);
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

// The row of a matrix behind a row of the tile. If GATED, of two rows one is of the first matrix and one of the second.
fn row_of(p: u32, first_row: u32, row: u32) -> u32 {
  return min(first_row + select(row, row / 2u, GATED), params.parts[p].rows - 1u);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let p = part_of(group.y);
  let first_row = (group.y - params.parts[p].first) * select(16u, 8u, GATED);
  let tile = group.x * 16u;
  let quads = params.depth / 4u;
  let blocks = params.depth / 16u;
  let way = lane & 7u;
  // Eight groups of rows by four of tokens; in each run of 32 lanes two by two, which share what they read.
  let m = lane / 8u;
  let rows_of = (m & 1u) | (((m >> 2u) & 3u) << 1u);
  let tokens_of = ((m >> 1u) & 1u) | ((m >> 4u) << 1u);
  // What this lane brings: two quads of a row, the first or the last two of lane `its`, and two of a token.
  let half = lane & 1u;
  let its = (lane / 2u) & 7u;
  let row = lane / 16u;
  let is_up = GATED && (row & 1u) == 1u;
  let w_from = select(params.parts[p].weight, params.parts[p].up, is_up) + row_of(p, first_row, row) * blocks;
  // Tokens beyond the last repeat it.
  let x_from = min(tile + row, params.tokens - 1u) * quads;
  let column = lane & 15u;
  let w_to = row * 32u + half * 16u + its;
  let x_to = row * 32u + (column & 3u) * 8u + column / 4u;
  let w_at = rows_of * 64u + way;
  let x_at = tokens_of * 128u + way;
  let scales0 = params.parts[p].scales + row_of(p, first_row, rows_of * 2u) * (params.depth / 32u);
  let scales1 = select(params.parts[p].scales, params.parts[p].up_scales, GATED) +
    row_of(p, first_row, rows_of * 2u + 1u) * (params.depth / 32u);
  var a00 = vec4f();
  var a01 = vec4f();
  var a02 = vec4f();
  var a03 = vec4f();
  var a10 = vec4f();
  var a11 = vec4f();
  var a12 = vec4f();
  var a13 = vec4f();
  // What lies beyond the end repeats the last and is not used.
  var word = weight[w_from + min(its, blocks - 1u)];
  var x0 = x[x_from + min(column, quads - 1u)];
  var x1 = x[x_from + min(column + 16u, quads - 1u)];
  let stages = (blocks + 7u) / 8u;
  for (var stage = 0u; stage < stages; stage++) {
    let base = stage * 8u;
    let pair = select(word.xy, word.zw, half == 1u);
    w_tile[w_to] = vec4f(unpack4xI8(pair.x));
    w_tile[w_to + 8u] = vec4f(unpack4xI8(pair.y));
    x_tile[x_to] = x0;
    x_tile[x_to + 4u] = x1;
    workgroupBarrier();
    // The next tile is under way while this one is computed.
    word = weight[w_from + min(base + 8u + its, blocks - 1u)];
    x0 = x[x_from + min((base + 8u) * 4u + column, quads - 1u)];
    x1 = x[x_from + min((base + 8u) * 4u + column + 16u, quads - 1u)];
    if (base + way < blocks) {
      let scale0 = vec4f(bitcast<f32>(word_at(scales0 + (base + way) / 2u)));
      let scale1 = vec4f(bitcast<f32>(word_at(scales1 + (base + way) / 2u)));
      let v00 = w_tile[w_at + 0u];
      let v10 = w_tile[w_at + 32u];
      let u00 = x_tile[x_at + 0u];
      var c00 = v00 * u00;
      var c10 = v10 * u00;
      let u10 = x_tile[x_at + 32u];
      var c01 = v00 * u10;
      var c11 = v10 * u10;
      let u20 = x_tile[x_at + 64u];
      var c02 = v00 * u20;
      var c12 = v10 * u20;
      let u30 = x_tile[x_at + 96u];
      var c03 = v00 * u30;
      var c13 = v10 * u30;
      let v01 = w_tile[w_at + 8u];
      let v11 = w_tile[w_at + 40u];
      let u01 = x_tile[x_at + 8u];
      c00 = fma(v01, u01, c00);
      c10 = fma(v11, u01, c10);
      let u11 = x_tile[x_at + 40u];
      c01 = fma(v01, u11, c01);
      c11 = fma(v11, u11, c11);
      let u21 = x_tile[x_at + 72u];
      c02 = fma(v01, u21, c02);
      c12 = fma(v11, u21, c12);
      let u31 = x_tile[x_at + 104u];
      c03 = fma(v01, u31, c03);
      c13 = fma(v11, u31, c13);
      let v02 = w_tile[w_at + 16u];
      let v12 = w_tile[w_at + 48u];
      let u02 = x_tile[x_at + 16u];
      c00 = fma(v02, u02, c00);
      c10 = fma(v12, u02, c10);
      let u12 = x_tile[x_at + 48u];
      c01 = fma(v02, u12, c01);
      c11 = fma(v12, u12, c11);
      let u22 = x_tile[x_at + 80u];
      c02 = fma(v02, u22, c02);
      c12 = fma(v12, u22, c12);
      let u32 = x_tile[x_at + 112u];
      c03 = fma(v02, u32, c03);
      c13 = fma(v12, u32, c13);
      let v03 = w_tile[w_at + 24u];
      let v13 = w_tile[w_at + 56u];
      let u03 = x_tile[x_at + 24u];
      c00 = fma(v03, u03, c00);
      c10 = fma(v13, u03, c10);
      let u13 = x_tile[x_at + 56u];
      c01 = fma(v03, u13, c01);
      c11 = fma(v13, u13, c11);
      let u23 = x_tile[x_at + 88u];
      c02 = fma(v03, u23, c02);
      c12 = fma(v13, u23, c12);
      let u33 = x_tile[x_at + 120u];
      c03 = fma(v03, u33, c03);
      c13 = fma(v13, u33, c13);
      a00 = fma(scale0, c00, a00);
      a01 = fma(scale0, c01, a01);
      a02 = fma(scale0, c02, a02);
      a03 = fma(scale0, c03, a03);
      a10 = fma(scale1, c10, a10);
      a11 = fma(scale1, c11, a11);
      a12 = fma(scale1, c12, a12);
      a13 = fma(scale1, c13, a13);
    }
    workgroupBarrier();
  }
  w_tile[lane] = vec4f(across(a00), across(a10), 0.0, 0.0);
  workgroupBarrier();
  finish(lane, p, first_row, tile, 0u);
  workgroupBarrier();
  w_tile[lane] = vec4f(across(a01), across(a11), 0.0, 0.0);
  workgroupBarrier();
  finish(lane, p, first_row, tile, 1u);
  workgroupBarrier();
  w_tile[lane] = vec4f(across(a02), across(a12), 0.0, 0.0);
  workgroupBarrier();
  finish(lane, p, first_row, tile, 2u);
  workgroupBarrier();
  w_tile[lane] = vec4f(across(a03), across(a13), 0.0, 0.0);
  workgroupBarrier();
  finish(lane, p, first_row, tile, 3u);
}
