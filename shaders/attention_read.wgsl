// attention_read: attention of tokens that read some of their slots only, or older slots in fewer bits.
//
//   w[s] = softmax over the slots s that the token reads of (q . k[s] * scale);  y = sum over s of w[s] * v[s]
//
// Source    as attention; formats: runtime/kv/formats.ts and kivi.ts.
// Shapes    q, y [tokens, heads * head_dim]; keys, values: words of the pool; lists [ruled tokens, kv_heads, room] of choose_slots;
//           stats [tokens, heads, 2]: largest score and sum of exponentials; step_data as runtime/backend/webgpu/row_table.ts and
//           read_table.ts lay it out.
// Types     f32; keys and values f32, int8, int4 or kivi4, which are decoded to f32.
// Bindings  0 params, 1 q, 2 keys, 3 values, 4 step_data, 5 lists, 6 y, 7 stats
// Dispatch  (heads, chosen tokens, 1): one workgroup per query head of a token; with SPLIT (heads, chosen tokens, pieces), whose parts
//           lie by the number of the token among them
// Limits    head_dim <= 256; chosen tokens <= 65535; slots of a row <= 64 * 32768.
// Order     as attention, to the bit: slots that are read in parts of 64 in the order of the sequence.

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
  chosen: u32, // word of step_data where the chosen tokens are
  room: u32, // words of a list
  pieces: u32, // parts of 64 slots there is room for, if SPLIT
  scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> keys: array<u32>;
@group(0) @binding(3) var<storage, read> values: array<u32>;
@group(0) @binding(4) var<storage, read> step_data: array<u32>;
@group(0) @binding(5) var<storage, read> lists: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read_write> stats: array<f32>;

const LEAST = -3.4e38;
const ALL = 0xffffffffu;

// Scalars: storing one component of a shared vector may touch its neighbours.
var<workgroup> query: array<f32, 256>;
// Twice, for odd and even parts, so that a part needs two barriers. Words of values; the highest bit is set in another format.
var<workgroup> places: array<u32, 128>;
var<workgroup> weights: array<f32, 128>;
var<workgroup> scores: array<f32, 64>;

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

// Numbers 4i to 4i + 3 of a key. `page`: first word of the page, `slot`: place in it, `form`: 0 f32, 1 int8, 2 int4, 3 kivi4.
fn key_quad(page: u32, slot: u32, form: u32, i: u32) -> vec4f {
  let dim = params.head_dim;
  if (form == 0u) {
    let at = page + (slot * params.quads + i) * 4u;
    return bitcast<vec4f>(vec4u(keys[at], keys[at + 1u], keys[at + 2u], keys[at + 3u]));
  }
  if (form == 1u) {
    let at = page + slot * (1u + params.quads);
    return vec4f(unpack4xI8(keys[at + 1u + i])) * bitcast<f32>(keys[at]);
  }
  let words = (dim + 7u) / 8u;
  if (form == 2u) {
    let groups = (dim + 31u) / 32u;
    let at = page + slot * (groups + words);
    let scale = unpack2x16float(keys[at + i / 8u]);
    let bits = (keys[at + groups + i / 2u] >> (16u * (i & 1u))) & 0xffffu;
    let n = vec4f(vec4u(bits & 15u, (bits >> 4u) & 15u, (bits >> 8u) & 15u, bits >> 12u));
    return fma(vec4f(select(scale.x, 1.0, scale.x == 0.0)), n, vec4f(scale.y));
  }
  let at = page + slot / 32u * (dim + 32u * words);
  let bits = (keys[at + dim + (slot & 31u) * words + i / 2u] >> (16u * (i & 1u))) & 0xffffu;
  var out = vec4f();
  for (var c = 0u; c < min(4u, dim - 4u * i); c++) {
    let scale = unpack2x16float(keys[at + 4u * i + c]);
    out[c] = fma(select(scale.x, 1.0, scale.x == 0.0), f32((bits >> (4u * c)) & 15u), scale.y);
  }
  return out;
}

// Number d of the value at a place; `form` is that of values in another format.
fn value_at(place: u32, form: u32, d: u32) -> f32 {
  let at = place & 0x7fffffffu;
  if (place == at) {
    return bitcast<f32>(values[at + d]);
  }
  if (form == 1u) {
    return f32(unpack4xI8(values[at + 1u + d / 4u])[d & 3u]) * bitcast<f32>(values[at]);
  }
  let scale = unpack2x16float(values[at + d / 32u]);
  let n = (values[at + (params.head_dim + 31u) / 32u + d / 8u] >> (4u * (d & 7u))) & 15u;
  return fma(select(scale.x, 1.0, scale.x == 0.0), f32(n), scale.y);
}

// One slot's share, for the dimensions of a lane.
fn mix(sum: vec4f, w: f32, place: u32, form: u32, lane: u32) -> vec4f {
  var out = sum;
  out.x = fma(w, value_at(place, form, lane), out.x);
  if (lane + 64u < params.head_dim) {
    out.y = fma(w, value_at(place, form, lane + 64u), out.y);
  }
  if (lane + 128u < params.head_dim) {
    out.z = fma(w, value_at(place, form, lane + 128u), out.z);
  }
  if (lane + 192u < params.head_dim) {
    out.w = fma(w, value_at(place, form, lane + 192u), out.w);
  }
  return out;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  let token = step_data[params.chosen + 2u * group.y];
  let view = step_data[params.chosen + 2u * group.y + 1u];
  let kv_head = head / (params.heads / params.kv_heads);
  let row = step_data[view];
  let form = step_data[view + 1u];
  let per_page = step_data[view + 2u];
  let start = step_data[row];
  let length = step_data[row + 1u];
  let grain = step_data[row + 2u];
  let table_group = select(select(params.layer * params.kv_heads + kv_head, params.layer, grain == 1u), 0u, grain == 0u);
  let unit_base = select(select(0u, kv_head, grain == 1u), params.home * params.kv_heads + kv_head, grain == 0u) * (params.slots / params.page_size);
  let entry = step_data[row + 3u] + 6u * table_group;
  let pages = step_data[entry + 1u];
  let older = step_data[view + 3u] + 5u * table_group;
  let encoded = step_data[older];
  let encoded_pages = step_data[older + 1u];
  let before = encoded + step_data[entry] - length;
  let own = token - start;
  let seen = step_data[row + 5u];
  var own_count = own + 1u;
  var own_list = 0u;
  if (seen != 0u) {
    own_count = step_data[seen + 2u * own];
    own_list = step_data[seen + 2u * own + 1u];
  }
  // Of the slots before the row a list and all from some slot on, or all.
  let listed = step_data[older + 2u];
  let list = step_data[older + 3u];
  let listed_to = step_data[older + 4u];
  let held = listed + before - listed_to;
  var end = held + own_count;
  // Or what a rule chose.
  var chosen = ALL;
  let first_ruled = step_data[view + 4u];
  if (own >= first_ruled) {
    let list_at = ((step_data[view + 5u] + own - first_ruled) * params.kv_heads + kv_head) * params.room;
    let count = lists[list_at];
    if (count != ALL) {
      chosen = list_at + 1u;
      end = count;
    }
  }
  // Or, where some slots are hidden from some tokens, all that this one sees.
  let sights = step_data[view + 9u];
  var sight = 0u;
  if (sights != 0u && chosen == ALL) {
    end = step_data[sights + 2u * own];
    sight = step_data[sights + 2u * own + 1u];
  }
  let page_words = params.page_size * params.quads * 4u;
  let value_words = select((params.head_dim + 31u) / 32u + (params.head_dim + 7u) / 8u, 1u + params.quads, form == 1u);

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
      if (chosen != ALL) {
        s = lists[chosen + index];
      } else if (sight != 0u) {
        s = step_data[sight + index];
      } else if (index < listed) {
        s = step_data[list + index];
      } else if (own_list != 0u && index >= held) {
        s = before + step_data[own_list + index - held];
      }
      var page = 0u;
      var slot = 0u;
      let is_encoded = s < encoded;
      if (is_encoded) {
        page = (unit_base + step_data[encoded_pages + s / per_page]) * page_words;
        slot = s % per_page;
        places[turn + lane] = (page + slot * value_words) | 0x80000000u;
      } else {
        page = (unit_base + step_data[pages + (s - encoded) / params.page_size]) * page_words;
        slot = (s - encoded) % params.page_size;
        places[turn + lane] = page + slot * params.quads * 4u;
      }
      var dot4 = vec4f();
      for (var i = 0u; i < params.quads; i++) {
        let q4 = vec4f(query[4u * i], query[4u * i + 1u], query[4u * i + 2u], query[4u * i + 3u]);
        dot4 = fma(q4, key_quad(page, slot, select(0u, form, is_encoded), i), dot4);
      }
      score = ((dot4.x + dot4.y) + (dot4.z + dot4.w)) * params.scale;
    }
    scores[lane] = score;
    workgroupBarrier();
    var part_largest = LEAST;
    for (var i = 0u; i < 64u; i += 4u) {
      part_largest = max(part_largest, max(max(scores[i], scores[i + 1u]), max(scores[i + 2u], scores[i + 3u])));
    }
    weights[turn + lane] = select(0.0, exp_exact(score - part_largest), visible);
    workgroupBarrier();
    var part_mixed = vec4f();
    var total4 = vec4f();
    // Lanes without a dimension have nothing to add up. Weights of slots beyond the end are 0; those may hold anything.
    let here = select(0u, min(64u, end - part * 64u), lane < params.head_dim);
    for (var i = 0u; i < here; i += 4u) {
      let w4 = vec4f(weights[turn + i], weights[turn + i + 1u], weights[turn + i + 2u], weights[turn + i + 3u]);
      total4 += w4;
      if (w4.x > 0.0) {
        part_mixed = mix(part_mixed, w4.x, places[turn + i], form, lane);
      }
      if (w4.y > 0.0) {
        part_mixed = mix(part_mixed, w4.y, places[turn + i + 1u], form, lane);
      }
      if (w4.z > 0.0) {
        part_mixed = mix(part_mixed, w4.z, places[turn + i + 2u], form, lane);
      }
      if (w4.w > 0.0) {
        part_mixed = mix(part_mixed, w4.w, places[turn + i + 3u], form, lane);
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
