// attention_read_signals: records what attention_read gave to each slot, for KV policies.
//
//   sum += w;  last = sum of w over the heads of the latest token that reads the slot;  max = largest w
//
// Source    runtime/backend/cpu/signals.ts defines the three.
// Shapes    q [tokens, heads * head_dim]; keys: words of the pool; stats [tokens, heads, 2] of attention_read; lists of choose_slots;
//           record [units, page_size], encoded the same of the rows' format; step_data as runtime/backend/webgpu/row_table.ts and
//           read_table.ts lay it out.
// Types     f32; keys f32, int8, int4 or kivi4, which are decoded to f32.
// Bindings  0 params, 1 q, 2 keys, 3 stats, 4 step_data, 5 lists, 6 record, 7 encoded
// Dispatch  (ceil(most slots of a row / 64), kv_heads, chosen rows): one lane per slot
// Limits    rows <= 65535.
// Order     tokens in sequence order, within a token heads in order: chunks do not matter.

struct Params {
  heads: u32,
  kv_heads: u32,
  head_dim: u32,
  quads: u32, // ceil(head_dim / 4)
  page_size: u32,
  slots: u32, // of a sequence: slots per page times pages
  layer: u32,
  home: u32, // number of the layer within this buffer
  chosen: u32, // word of step_data where the views of the rows to record are
  room: u32, // words of a list
  scale: f32,
  signal: u32, // 0 sum, 1 last, 2 max
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> keys: array<u32>;
@group(0) @binding(3) var<storage, read> stats: array<f32>;
@group(0) @binding(4) var<storage, read> step_data: array<u32>;
@group(0) @binding(5) var<storage, read> lists: array<u32>;
@group(0) @binding(6) var<storage, read_write> record: array<f32>;
@group(0) @binding(7) var<storage, read_write> encoded: array<f32>;

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

// Whether an ascending list of `count` numbers has s.
fn list_has(at: u32, count: u32, s: u32) -> bool {
  var low = 0u;
  var high = count;
  for (var round = 0u; round < 32u; round++) {
    if (low < high) {
      let middle = (low + high) / 2u;
      if (lists[at + middle] < s) {
        low = middle + 1u;
      } else {
        high = middle;
      }
    }
  }
  return low < count && lists[at + min(low, count - 1u)] == s;
}

// The same for the lists of the host.
fn data_has(at: u32, count: u32, s: u32) -> bool {
  var low = 0u;
  var high = count;
  for (var round = 0u; round < 32u; round++) {
    if (low < high) {
      let middle = (low + high) / 2u;
      if (step_data[at + middle] < s) {
        low = middle + 1u;
      } else {
        high = middle;
      }
    }
  }
  return low < count && step_data[at + min(low, count - 1u)] == s;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let kv_head = group.y;
  let view = step_data[params.chosen + group.z];
  let row = step_data[view];
  let form = step_data[view + 1u];
  let per_page = step_data[view + 2u];
  let start = step_data[row];
  let length = step_data[row + 1u];
  let grain = step_data[row + 2u];
  let table_group = select(select(params.layer * params.kv_heads + kv_head, params.layer, grain == 1u), 0u, grain == 0u);
  let unit_base = select(select(0u, kv_head, grain == 1u), params.home * params.kv_heads + kv_head, grain == 0u) * (params.slots / params.page_size);
  let entry = step_data[row + 3u] + 6u * table_group;
  let older = step_data[view + 3u] + 5u * table_group;
  let coded = step_data[older];
  let count = coded + step_data[entry];
  let before = count - length;
  let mask = step_data[row + 4u];
  let words = (length + 31u) / 32u;
  let s = group.x * 64u + lane;
  if (s >= count) {
    return;
  }
  let is_coded = s < coded;
  let plain = s - select(coded, 0u, is_coded);
  let size = select(params.page_size, per_page, is_coded);
  let table = select(step_data[entry + 1u], step_data[older + 1u], is_coded);
  let unit = unit_base + step_data[table + plain / size];
  let place = unit * size + plain % size;
  let key_form = select(0u, form, is_coded);
  let page = unit * params.page_size * params.quads * 4u;
  let list = step_data[older + 3u];
  let is_read = list == 0u || s >= step_data[older + 4u] || data_has(list, step_data[older + 2u], s);
  let per_group = params.heads / params.kv_heads;
  let first_ruled = step_data[view + 4u];
  let sights = step_data[view + 9u];
  var value = select(record[select(place, 0u, is_coded)], encoded[select(0u, place, is_coded)], is_coded);
  for (var t = 0u; t < length; t++) {
    var visible = s <= before + t;
    if (mask != 0u && s >= before) {
      let j = s - before;
      visible = ((step_data[mask + t * words + j / 32u] >> (j & 31u)) & 1u) == 1u;
    }
    visible = visible && (is_read || s >= before);
    if (visible && sights != 0u) {
      visible = data_has(step_data[sights + 2u * t + 1u], step_data[sights + 2u * t], s);
    }
    if (visible && t >= first_ruled) {
      let at = ((step_data[view + 5u] + t - first_ruled) * params.kv_heads + kv_head) * params.room;
      visible = lists[at] == 0xffffffffu || list_has(at + 1u, lists[at], s);
    }
    if (visible) {
      for (var g = 0u; g < per_group; g++) {
        let query = (start + t) * params.heads + kv_head * per_group + g;
        var dot4 = vec4f();
        for (var i = 0u; i < params.quads; i++) {
          var q4 = vec4f();
          for (var c = 0u; c < min(4u, params.head_dim - 4u * i); c++) {
            q4[c] = q[query * params.head_dim + 4u * i + c];
          }
          dot4 = fma(q4, key_quad(page, plain % size, key_form, i), dot4);
        }
        let score = ((dot4.x + dot4.y) + (dot4.z + dot4.w)) * params.scale;
        let w = exp_exact(score - stats[query * 2u]) / stats[query * 2u + 1u];
        if (params.signal == 2u) {
          value = max(value, w);
        } else if (params.signal == 1u && g == 0u) {
          value = w;
        } else {
          value += w;
        }
      }
    }
  }
  if (is_coded) {
    encoded[place] = value;
  } else {
    record[place] = value;
  }
}
