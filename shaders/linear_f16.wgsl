// linear_f16: x times the transpose of up to three weight matrices in f16, with what follows fused in.
//
//   y[t, n] = sum over k of x[t, k] * weight[n, k] + bias[n]            as it is
//   y[t, n] = that + residual[t, n]                                     RESIDUAL
//   y[t, n] = silu(gate[t, n]) * up[t, n] of two such sums              GATED
//
// Source    none needed; SwiGLU: Shazeer 2020, https://arxiv.org/abs/2002.05202.
// Shapes    x [tokens, depth]; per part weight [rows, depth], bias [rows], y [tokens, stride], residual as y.
// Types     weight: f16 pairs in u32 words, unpacked without the f16 feature. Everything else f32.
// Bindings  0 params, 1 x, 2 weight, 3 bias, 4 residual, 5 y
// Dispatch  (sum of ceil(rows / 8) over parts, ceil(tokens / M), 1): eight rows by M tokens per workgroup
// Limits    depth is a multiple of 4 and at most 2^20; weight is bound as a whole buffer, so that parts can share it.
// Order     eight lanes per row, lane w sums k = 32 i + 4 w + (0 to 3) as four chains;
//           then a tree over the lanes. Fixed by depth: neither M nor the tokens beside it change a row.

override M: u32 = 8; // tokens per workgroup: 1, 2, 4 or 8
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

fn unpack(pairs: vec2u) -> vec4f {
  return vec4f(unpack2x16float(pairs.x), unpack2x16float(pairs.y));
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
  let start = params.parts[p].weight + row * quads;
  let up_from = params.parts[p].up + row * quads;
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
    for (; j + 24u < quads; j += 32u) {
      let w0 = unpack(weight[start + j]);
      let w1 = unpack(weight[start + j + 8u]);
      let w2 = unpack(weight[start + j + 16u]);
      let w3 = unpack(weight[start + j + 24u]);
      a0 = fma(w3, x[b0 + j + 24u], fma(w2, x[b0 + j + 16u], fma(w1, x[b0 + j + 8u], fma(w0, x[b0 + j], a0))));
      if (GATED) {
        let u0 = unpack(weight[up_from + j]);
        let u1 = unpack(weight[up_from + j + 8u]);
        let u2 = unpack(weight[up_from + j + 16u]);
        let u3 = unpack(weight[up_from + j + 24u]);
        c0 = fma(u3, x[b0 + j + 24u], fma(u2, x[b0 + j + 16u], fma(u1, x[b0 + j + 8u], fma(u0, x[b0 + j], c0))));
      }
    }
  }
  for (; j < quads; j += 8u) {
    let w = unpack(weight[start + j]);
    var u = vec4f();
    if (GATED) {
      u = unpack(weight[up_from + j]);
    }
    let x0 = x[b0 + j];
    a0 = fma(w, x0, a0);
    if (GATED) {
      c0 = fma(u, x0, c0);
    }
    if (M > 1u) {
      let x1 = x[b1 + j];
      a1 = fma(w, x1, a1);
      if (GATED) {
        c1 = fma(u, x1, c1);
      }
    }
    if (M > 2u) {
      let x2 = x[b2 + j];
      a2 = fma(w, x2, a2);
      if (GATED) {
        c2 = fma(u, x2, c2);
      }
      let x3 = x[b3 + j];
      a3 = fma(w, x3, a3);
      if (GATED) {
        c3 = fma(u, x3, c3);
      }
    }
    if (M > 4u) {
      let x4 = x[b4 + j];
      a4 = fma(w, x4, a4);
      if (GATED) {
        c4 = fma(u, x4, c4);
      }
      let x5 = x[b5 + j];
      a5 = fma(w, x5, a5);
      if (GATED) {
        c5 = fma(u, x5, c5);
      }
      let x6 = x[b6 + j];
      a6 = fma(w, x6, a6);
      if (GATED) {
        c6 = fma(u, x6, c6);
      }
      let x7 = x[b7 + j];
      a7 = fma(w, x7, a7);
      if (GATED) {
        c7 = fma(u, x7, c7);
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
