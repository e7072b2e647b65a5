// attention_subgroup: attention where lanes can pass each other values: causal grouped-query attention of new tokens over their rows' pages.
//
//   w[s] = softmax over visible slots s of (q . k[s] * scale);  y = sum over s of w[s] * v[s]
//
// Source    Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, eq. 1; grouped queries: Ainslie et al. 2023,
//           https://arxiv.org/abs/2305.13245; running maximum: Milakov & Gimelshein 2018, https://arxiv.org/abs/1805.02867.
// Shapes    q, y [tokens, heads * head_dim]; keys, values [units, page_size, padded]; stats [tokens, heads, 2]: largest score and
//           sum of exponentials; step_data as runtime/backend/webgpu/row_table.ts lays it out.
// Types     f32; keys and values Kv, f32 as written.
// Bindings  0 params, 1 q, 2 keys, 3 values, 4 step_data, 5 y, 6 stats
// Dispatch  (heads, tokens, 1): one workgroup per query head of a token; with SPLIT (heads, tokens, pieces). All tokens or chosen ones;
//           parts of SPLIT lie by the number of the token among them
// Limits    head_dim <= 256; tokens <= 65535; slots of a row <= 64 * 32768.
//           Subgroups of at least 8 lanes in the order of the workgroup, as the probe in subgroups.ts finds out.
// Order     that of attention, to the bit: visible slots in parts of 64 in the order of the page table. Within a part: dot products as four chains over quads of
//           dimensions; maximum; sums over slots as one chain per dimension, of weights as four. Parts are joined one by one. Where pages lie, how a prompt was
//           cut and what other rows do changes nothing; attention_merge joins the parts of SPLIT in the same order to the bit.

// Parts of 64 slots are spread over workgroups, each writes what attention_merge joins. Else one workgroup takes all parts.
override SPLIT: bool = false;

struct Params {
  heads: u32,
  kv_heads: u32,
  head_dim: u32,
  quads: u32, // ceil(head_dim / 4)
  page_size: u32,
  slots: u32, // of a sequence: slots per page times pages
  layer: u32,
  home: u32, // number of the layer within this buffer
  token_rows: u32, // word of step_data where the row of each token is
  rows: u32, // word where the rows are
  pieces: u32, // parts of 64 slots there is room for, if SPLIT
  scale: f32,
  chosen: u32, // word where the numbers of the tokens are, 0: all from the first one on
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

// Scalars: storing one component of a shared vector may touch its neighbours.
var<workgroup> query: array<f32, 256>;
// Twice, for odd and even parts, so that a part needs two barriers.
var<workgroup> places: array<u32, 128>;
var<workgroup> weights: array<f32, 128>;
var<workgroup> maxima: array<f32, 8>; // of eight lanes each

// The largest of eight lanes' values, which each of them gets.
fn most_of_eight(v: f32) -> f32 {
  let pairs = max(v, subgroupShuffleXor(v, 1u));
  let fours = max(pairs, subgroupShuffleXor(pairs, 2u));
  return max(fours, subgroupShuffleXor(fours, 4u));
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

// The dimensions from 64 on of one slot; `left` of them, from this lane's first one.
fn wide(sum: vec4f, w: f32, at: u32, left: u32) -> vec4f {
  var out = sum;
  if (left > 64u) {
    out.y = fma(w, f32(values[at + 64u]), out.y);
  }
  if (left > 128u) {
    out.z = fma(w, f32(values[at + 128u]), out.z);
  }
  if (left > 192u) {
    out.w = fma(w, f32(values[at + 192u]), out.w);
  }
  return out;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  var token = group.y;
  if (params.chosen != 0u) {
    token = step_data[params.chosen + group.y];
  }
  let kv_head = head / (params.heads / params.kv_heads);
  let row = params.rows + 6u * step_data[params.token_rows + token];
  let start = step_data[row];
  let length = step_data[row + 1u];
  let grain = step_data[row + 2u];
  let table_group = select(select(params.layer * params.kv_heads + kv_head, params.layer, grain == 1u), 0u, grain == 0u);
  let unit_base = select(select(0u, kv_head, grain == 1u), params.home * params.kv_heads + kv_head, grain == 0u) * (params.slots / params.page_size);
  let entry = step_data[row + 3u] + 6u * table_group;
  let count = step_data[entry];
  let pages = step_data[entry + 1u];
  let before = count - length;
  let own = token - start;
  // In a tree, the list of the row's tokens that this one sees; 0: those up to itself. Either way slots are taken without
  // gaps, so that a token of a tree is computed as it would be in a sequence of its own.
  let seen = step_data[row + 5u];
  var own_count = own + 1u;
  var own_list = 0u;
  if (seen != 0u) {
    own_count = step_data[seen + 2u * own];
    own_list = step_data[seen + 2u * own + 1u];
  }
  // Of the slots before the row a list and all from some slot on, or all.
  let list = step_data[entry + 4u];
  var listed = 0u;
  var listed_to = 0u;
  if (list != 0u) {
    listed = step_data[entry + 3u];
    listed_to = step_data[entry + 5u];
  }
  let held = listed + before - listed_to;
  let end = held + own_count;

  for (var i = lane; i < params.quads * 4u; i += 64u) {
    query[i] = select(0.0, q[(token * params.heads + head) * params.head_dim + min(i, params.head_dim - 1u)], i < params.head_dim);
  }

  workgroupBarrier();

  var largest = LEAST;
  var total = 0.0;
  var mixed = vec4f(); // dimensions lane, lane + 64, lane + 128, lane + 192
  let all = (end + 63u) / 64u;
  let first_part = select(0u, group.z, SPLIT);
  let last_part = select(all, min(all, group.z + 1u), SPLIT);
  for (var part = first_part; part < last_part; part++) {
    let index = part * 64u + lane;
    let visible = index < end;
    let turn = (part & 1u) * 64u;
    var score = LEAST;
    if (visible) {
      var s = index - listed + listed_to;
      if (index < listed) {
        s = step_data[list + index];
      } else if (own_list != 0u && index >= held) {
        s = before + step_data[own_list + index - held];
      }
      let place = (unit_base + step_data[pages + s / params.page_size]) * params.page_size + s % params.page_size;
      places[turn + lane] = place;
      var dot4 = vec4f();
      for (var i = 0u; i < params.quads; i++) {
        let q4 = vec4f(query[4u * i], query[4u * i + 1u], query[4u * i + 2u], query[4u * i + 3u]);
        dot4 = fma(q4, vec4f(keys[place * params.quads + i]), dot4);
      }
      score = ((dot4.x + dot4.y) + (dot4.z + dot4.w)) * params.scale;
    }
    let eight = most_of_eight(score);
    if ((lane & 7u) == 0u) {
      maxima[lane / 8u] = eight;
    }
    workgroupBarrier();
    let part_largest = max(
      max(max(maxima[0], maxima[1]), max(maxima[2], maxima[3])),
      max(max(maxima[4], maxima[5]), max(maxima[6], maxima[7])),
    );
    weights[turn + lane] = select(0.0, exp_exact(score - part_largest), visible);
    workgroupBarrier();
    var part_mixed = vec4f();
    var total4 = vec4f();
    let is_wide = params.head_dim > 64u;
    // Lanes without a dimension have nothing to add up. Weights of slots beyond the end are 0; those may hold anything.
    let here = select(0u, min(64u, end - part * 64u), lane < params.head_dim);
    for (var i = 0u; i < here; i += 4u) {
      let w4 = vec4f(weights[turn + i], weights[turn + i + 1u], weights[turn + i + 2u], weights[turn + i + 3u]);
      total4 += w4;
      if (w4.x > 0.0) {
        let at = places[turn + i] * params.quads * 4u + lane;
        part_mixed.x = fma(w4.x, f32(values[at]), part_mixed.x);
        if (is_wide) {
          part_mixed = wide(part_mixed, w4.x, at, params.head_dim - lane);
        }
      }
      if (w4.y > 0.0) {
        let at = places[turn + i + 1u] * params.quads * 4u + lane;
        part_mixed.x = fma(w4.y, f32(values[at]), part_mixed.x);
        if (is_wide) {
          part_mixed = wide(part_mixed, w4.y, at, params.head_dim - lane);
        }
      }
      if (w4.z > 0.0) {
        let at = places[turn + i + 2u] * params.quads * 4u + lane;
        part_mixed.x = fma(w4.z, f32(values[at]), part_mixed.x);
        if (is_wide) {
          part_mixed = wide(part_mixed, w4.z, at, params.head_dim - lane);
        }
      }
      if (w4.w > 0.0) {
        let at = places[turn + i + 3u] * params.quads * 4u + lane;
        part_mixed.x = fma(w4.w, f32(values[at]), part_mixed.x);
        if (is_wide) {
          part_mixed = wide(part_mixed, w4.w, at, params.head_dim - lane);
        }
      }
    }
    let part_total = (total4.x + total4.y) + (total4.z + total4.w);
    if (SPLIT) {
      largest = part_largest;
      total = part_total;
      mixed = part_mixed;
    } else {
      let joined = max(largest, part_largest);
      let old = exp_exact(largest - joined);
      let new_ = exp_exact(part_largest - joined);
      total = fma(total, old, part_total * new_);
      mixed = fma(mixed, vec4f(old), part_mixed * new_);
      largest = joined;
    }
  }
  let query_at = select(token, group.y, SPLIT) * params.heads + head;
  let at = select(query_at, query_at * params.pieces + group.z, SPLIT);
  if (lane == 0u) {
    stats[at * 2u] = largest;
    stats[at * 2u + 1u] = total;
  }
  let out = select(mixed / total, mixed, SPLIT);
  let to = at * params.head_dim + lane;
  if (lane < params.head_dim) {
    y[to] = out.x;
  }
  if (lane + 64u < params.head_dim) {
    y[to + 64u] = out.y;
  }
  if (lane + 128u < params.head_dim) {
    y[to + 128u] = out.z;
  }
  if (lane + 192u < params.head_dim) {
    y[to + 192u] = out.w;
  }
}
