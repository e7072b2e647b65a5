// attention_tile: attention for runs of many tokens: eight queries of one KV head read its slots together.
//
//   w[s] = softmax over visible slots s of (q . k[s] * scale);  y = sum over s of w[s] * v[s]
//
// Source    Dao et al. 2022, https://arxiv.org/abs/2205.14135, algorithm 1, whose tiles are in registers here; for the rest see attention.
// Shapes    q, y [tokens, heads * head_dim]; keys, values [units, page_size, padded]; stats [tokens, heads, 2]: largest score and
//           sum of exponentials; step_data as runtime/backend/webgpu/row_table.ts lays it out, and per tile two words: row, first query.
//           Queries of a row count token by token, and within a token by head of the group.
// Types     f32; keys and values Kv, f32 as written.
// Bindings  0 params, 1 q, 2 keys, 3 values, 4 step_data, 5 y, 6 stats
// Dispatch  (kv_heads, tiles, 1): one workgroup per KV head of a tile
// Limits    head_dim <= 64 * WIDE; tiles <= 65535; slots of a row <= 64 * 32768; rows in causal order, no trees.
// Order     that of attention, to the bit: parts of 64 slots from the first on; per query the same chains. What it shares is loads: a lane has
//           one slot's key, then one dimension's values, for all eight queries.

override WIDE: u32 = 1; // head_dim in 64s: 1, 2 or 4

struct Params {
  heads: u32,
  kv_heads: u32,
  head_dim: u32,
  quads: u32, // ceil(head_dim / 4)
  page_size: u32,
  slots: u32, // of a sequence: slots per page times pages
  layer: u32,
  home: u32, // number of the layer within this buffer
  rows: u32, // word of step_data where the rows are
  tiles: u32, // word where the tiles are
  scale: f32,
}

// How keys and values are stored; inHalf() may make it f16.
alias Kv = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> keys: array<vec4<Kv>>;
@group(0) @binding(3) var<storage, read> values: array<Kv>;
@group(0) @binding(4) var<storage, read> step_data: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read_write> stats: array<f32>;

const LEAST = -3.4e38;

// Vectors hold a number of four queries each, a those of the first four, b those of the others.
var<workgroup> query: array<vec4f, 512>; // [quad][query]
var<workgroup> places: array<u32, 128>; // twice, for odd and even parts
var<workgroup> scores: array<vec4f, 128>; // [slot][a or b], as are weights
var<workgroup> weights: array<vec4f, 128>;
var<workgroup> maxima: array<vec4f, 16>; // [eight slots][a or b]
var<workgroup> chains: array<vec4f, 8>; // [slot mod 4][a or b], sums of weights

// exp_exact of attention on four numbers.
fn exp_exact(v: vec4f) -> vec4f {
  let t = clamp(v, vec4f(-87.0), vec4f(89.0));
  let n = round(t * 1.44269504);
  let r = fma(n, vec4f(-1.42860677e-6), fma(n, vec4f(-0.693145752), t));
  var p = fma(r, vec4f(1.98756915e-4), vec4f(1.39819995e-3));
  p = fma(p, r, vec4f(8.33345186e-3));
  p = fma(p, r, vec4f(4.16657962e-2));
  p = fma(p, r, vec4f(0.166666657));
  p = fma(p, r, vec4f(0.5));
  p = fma(p, r * r, r) + 1.0;
  return select(p * bitcast<vec4f>(vec4u(vec4i(n) + 127) << vec4u(23u)), vec4f(), v < vec4f(-87.0));
}

fn across(v: vec4f) -> f32 {
  return (v.x + v.y) + (v.z + v.w);
}

// One slot's values of this lane: dimensions lane, lane + 64, lane + 128, lane + 192.
fn values_at(at: u32) -> vec4f {
  var v = vec4f(f32(values[at]), 0.0, 0.0, 0.0);
  if (WIDE > 1u) {
    v.y = f32(values[at + 64u]);
  }
  if (WIDE > 2u) {
    v.z = f32(values[at + 128u]);
    v.w = f32(values[at + 192u]);
  }
  return v;
}

// Adds a slot where it weighs anything: those that a query does not see may hold anything.
fn guarded(w: f32, v: vec4f, sum: vec4f) -> vec4f {
  return select(sum, fma(vec4f(w), v, sum), w > 0.0);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let kv_head = group.x;
  let per_group = params.heads / params.kv_heads;
  let tile = params.tiles + 2u * group.y;
  let row = params.rows + 6u * step_data[tile];
  let first = step_data[tile + 1u];
  let start = step_data[row];
  let length = step_data[row + 1u];
  let grain = step_data[row + 2u];
  let table_group = select(select(params.layer * params.kv_heads + kv_head, params.layer, grain == 1u), 0u, grain == 0u);
  let unit_base = select(select(0u, kv_head, grain == 1u), params.home * params.kv_heads + kv_head, grain == 0u) * (params.slots / params.page_size);
  let entry = step_data[row + 3u] + 6u * table_group;
  let pages = step_data[entry + 1u];
  let before = step_data[entry] - length;
  // Of the slots before the row a list and all from some slot on, or all.
  let list = step_data[entry + 4u];
  var listed = 0u;
  var listed_to = 0u;
  if (list != 0u) {
    listed = step_data[entry + 3u];
    listed_to = step_data[entry + 5u];
  }
  let held = listed + before - listed_to;
  // Queries beyond the last repeat it; their results are dropped.
  let last = length * per_group - 1u;
  let tokens_a = min(vec4u(first) + vec4u(0u, 1u, 2u, 3u), vec4u(last)) / per_group;
  let tokens_b = min(vec4u(first) + vec4u(4u, 5u, 6u, 7u), vec4u(last)) / per_group;
  let ends_a = tokens_a + (held + 1u);
  let ends_b = tokens_b + (held + 1u);
  let least_end = ends_a.x;
  let end = ends_b.w;

  for (var i = lane; i < params.quads * 8u; i += 64u) {
    let its = min(first + (i & 7u), last);
    let d = (i / 8u) * 4u;
    let at = ((start + its / per_group) * params.heads + kv_head * per_group + its % per_group) * params.head_dim;
    let most = params.head_dim - 1u;
    let q4 = vec4f(q[at + d], q[at + min(d + 1u, most)], q[at + min(d + 2u, most)], q[at + min(d + 3u, most)]);
    query[i] = select(vec4f(), q4, vec4u(d, d + 1u, d + 2u, d + 3u) < vec4u(params.head_dim));
  }
  workgroupBarrier();

  var largest_a = vec4f(LEAST);
  var largest_b = vec4f(LEAST);
  var total_a = vec4f();
  var total_b = vec4f();
  // What the last part changed: by how much to scale what was there, and the part.
  var old_a = vec4f(1.0);
  var old_b = vec4f(1.0);
  var new_a = vec4f();
  var new_b = vec4f();
  var m0 = vec4f();
  var m1 = vec4f();
  var m2 = vec4f();
  var m3 = vec4f();
  var m4 = vec4f();
  var m5 = vec4f();
  var m6 = vec4f();
  var m7 = vec4f();
  let parts = (end + 63u) / 64u;
  for (var part = 0u; part < parts; part++) {
    let index = part * 64u + lane;
    let turn = (part & 1u) * 64u;
    var score_a = vec4f(LEAST);
    var score_b = vec4f(LEAST);
    if (index < end) {
      var s = index - listed + listed_to;
      if (index < listed) {
        s = step_data[list + index];
      }
      let place = (unit_base + step_data[pages + s / params.page_size]) * params.page_size + s % params.page_size;
      places[turn + lane] = place;
      let key = place * params.quads;
      var d0 = vec4f();
      var d1 = vec4f();
      var d2 = vec4f();
      var d3 = vec4f();
      var d4 = vec4f();
      var d5 = vec4f();
      var d6 = vec4f();
      var d7 = vec4f();
      for (var i = 0u; i < params.quads; i++) {
        let k4 = vec4f(keys[key + i]);
        d0 = fma(query[i * 8u + 0u], k4, d0);
        d1 = fma(query[i * 8u + 1u], k4, d1);
        d2 = fma(query[i * 8u + 2u], k4, d2);
        d3 = fma(query[i * 8u + 3u], k4, d3);
        d4 = fma(query[i * 8u + 4u], k4, d4);
        d5 = fma(query[i * 8u + 5u], k4, d5);
        d6 = fma(query[i * 8u + 6u], k4, d6);
        d7 = fma(query[i * 8u + 7u], k4, d7);
      }
      score_a = select(score_a, vec4f(across(d0), across(d1), across(d2), across(d3)) * params.scale, vec4u(index) < ends_a);
      score_b = select(score_b, vec4f(across(d4), across(d5), across(d6), across(d7)) * params.scale, vec4u(index) < ends_b);
    }
    scores[lane * 2u] = score_a;
    scores[lane * 2u + 1u] = score_b;
    workgroupBarrier();
    total_a = fma(total_a, old_a, ((chains[0] + chains[2]) + (chains[4] + chains[6])) * new_a);
    total_b = fma(total_b, old_b, ((chains[1] + chains[3]) + (chains[5] + chains[7])) * new_b);
    if (lane < 16u) {
      let at = (lane / 2u) * 16u + (lane & 1u);
      maxima[lane] = max(
        max(max(scores[at], scores[at + 2u]), max(scores[at + 4u], scores[at + 6u])),
        max(max(scores[at + 8u], scores[at + 10u]), max(scores[at + 12u], scores[at + 14u])),
      );
    }
    workgroupBarrier();
    let part_a = max(
      max(max(maxima[0], maxima[2]), max(maxima[4], maxima[6])),
      max(max(maxima[8], maxima[10]), max(maxima[12], maxima[14])),
    );
    let part_b = max(
      max(max(maxima[1], maxima[3]), max(maxima[5], maxima[7])),
      max(max(maxima[9], maxima[11]), max(maxima[13], maxima[15])),
    );
    weights[lane * 2u] = select(vec4f(), exp_exact(score_a - part_a), vec4u(index) < ends_a);
    weights[lane * 2u + 1u] = select(vec4f(), exp_exact(score_b - part_b), vec4u(index) < ends_b);
    workgroupBarrier();
    if (lane < 8u) {
      var chain = weights[lane];
      for (var i = lane + 8u; i < 128u; i += 8u) {
        chain += weights[i];
      }
      chains[lane] = chain;
    }
    var p0 = vec4f();
    var p1 = vec4f();
    var p2 = vec4f();
    var p3 = vec4f();
    var p4 = vec4f();
    var p5 = vec4f();
    var p6 = vec4f();
    var p7 = vec4f();
    if (lane < params.head_dim) {
      if (part * 64u + 64u <= least_end) {
        for (var i = 0u; i < 64u; i += 4u) {
          let v0 = values_at(places[turn + i + 0u] * params.quads * 4u + lane);
          let v1 = values_at(places[turn + i + 1u] * params.quads * 4u + lane);
          let v2 = values_at(places[turn + i + 2u] * params.quads * 4u + lane);
          let v3 = values_at(places[turn + i + 3u] * params.quads * 4u + lane);
          let a0 = weights[2u * i + 0u];
          let b0 = weights[2u * i + 1u];
          let a1 = weights[2u * i + 2u];
          let b1 = weights[2u * i + 3u];
          let a2 = weights[2u * i + 4u];
          let b2 = weights[2u * i + 5u];
          let a3 = weights[2u * i + 6u];
          let b3 = weights[2u * i + 7u];
          p0 = fma(vec4f(a3.x), v3, fma(vec4f(a2.x), v2, fma(vec4f(a1.x), v1, fma(vec4f(a0.x), v0, p0))));
          p1 = fma(vec4f(a3.y), v3, fma(vec4f(a2.y), v2, fma(vec4f(a1.y), v1, fma(vec4f(a0.y), v0, p1))));
          p2 = fma(vec4f(a3.z), v3, fma(vec4f(a2.z), v2, fma(vec4f(a1.z), v1, fma(vec4f(a0.z), v0, p2))));
          p3 = fma(vec4f(a3.w), v3, fma(vec4f(a2.w), v2, fma(vec4f(a1.w), v1, fma(vec4f(a0.w), v0, p3))));
          p4 = fma(vec4f(b3.x), v3, fma(vec4f(b2.x), v2, fma(vec4f(b1.x), v1, fma(vec4f(b0.x), v0, p4))));
          p5 = fma(vec4f(b3.y), v3, fma(vec4f(b2.y), v2, fma(vec4f(b1.y), v1, fma(vec4f(b0.y), v0, p5))));
          p6 = fma(vec4f(b3.z), v3, fma(vec4f(b2.z), v2, fma(vec4f(b1.z), v1, fma(vec4f(b0.z), v0, p6))));
          p7 = fma(vec4f(b3.w), v3, fma(vec4f(b2.w), v2, fma(vec4f(b1.w), v1, fma(vec4f(b0.w), v0, p7))));
        }
      } else {
        let here = min(64u, end - part * 64u);
        for (var i = 0u; i < here; i++) {
          let v = values_at(places[turn + i] * params.quads * 4u + lane);
          let w_a = weights[2u * i];
          let w_b = weights[2u * i + 1u];
          p0 = guarded(w_a.x, v, p0);
          p1 = guarded(w_a.y, v, p1);
          p2 = guarded(w_a.z, v, p2);
          p3 = guarded(w_a.w, v, p3);
          p4 = guarded(w_b.x, v, p4);
          p5 = guarded(w_b.y, v, p5);
          p6 = guarded(w_b.z, v, p6);
          p7 = guarded(w_b.w, v, p7);
        }
      }
    }
    let joined_a = max(largest_a, part_a);
    let joined_b = max(largest_b, part_b);
    old_a = exp_exact(largest_a - joined_a);
    old_b = exp_exact(largest_b - joined_b);
    new_a = exp_exact(part_a - joined_a);
    new_b = exp_exact(part_b - joined_b);
    largest_a = joined_a;
    largest_b = joined_b;
    m0 = fma(m0, vec4f(old_a.x), p0 * new_a.x);
    m1 = fma(m1, vec4f(old_a.y), p1 * new_a.y);
    m2 = fma(m2, vec4f(old_a.z), p2 * new_a.z);
    m3 = fma(m3, vec4f(old_a.w), p3 * new_a.w);
    m4 = fma(m4, vec4f(old_b.x), p4 * new_b.x);
    m5 = fma(m5, vec4f(old_b.y), p5 * new_b.y);
    m6 = fma(m6, vec4f(old_b.z), p6 * new_b.z);
    m7 = fma(m7, vec4f(old_b.w), p7 * new_b.w);
  }
  workgroupBarrier();
  total_a = fma(total_a, old_a, ((chains[0] + chains[2]) + (chains[4] + chains[6])) * new_a);
  total_b = fma(total_b, old_b, ((chains[1] + chains[3]) + (chains[5] + chains[7])) * new_b);
  for (var k = 0u; k < 8u; k++) {
    let its = first + k;
    var out = m0 / total_a.x;
    var largest = largest_a.x;
    var total = total_a.x;
    if (k == 1u) {
      out = m1 / total_a.y;
      largest = largest_a.y;
      total = total_a.y;
    }
    if (k == 2u) {
      out = m2 / total_a.z;
      largest = largest_a.z;
      total = total_a.z;
    }
    if (k == 3u) {
      out = m3 / total_a.w;
      largest = largest_a.w;
      total = total_a.w;
    }
    if (k == 4u) {
      out = m4 / total_b.x;
      largest = largest_b.x;
      total = total_b.x;
    }
    if (k == 5u) {
      out = m5 / total_b.y;
      largest = largest_b.y;
      total = total_b.y;
    }
    if (k == 6u) {
      out = m6 / total_b.z;
      largest = largest_b.z;
      total = total_b.z;
    }
    if (k == 7u) {
      out = m7 / total_b.w;
      largest = largest_b.w;
      total = total_b.w;
    }
    if (its <= last) {
      let query_at = (start + its / per_group) * params.heads + kv_head * per_group + its % per_group;
      if (lane == 0u) {
        stats[query_at * 2u] = largest;
        stats[query_at * 2u + 1u] = total;
      }
      let to = query_at * params.head_dim + lane;
      if (lane < params.head_dim) {
        y[to] = out.x;
      }
      if (WIDE > 1u && lane + 64u < params.head_dim) {
        y[to + 64u] = out.y;
      }
      if (WIDE > 2u && lane + 128u < params.head_dim) {
        y[to + 128u] = out.z;
      }
      if (WIDE > 2u && lane + 192u < params.head_dim) {
        y[to + 192u] = out.w;
      }
    }
  }
}
