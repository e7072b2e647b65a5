// attention_signals: records what attention gave to each slot, for KV policies.
//
//   sum += w;  last = sum of w over the heads of the latest token that sees the slot;  max = largest w;  norm = |k|
//
// Source    runtime/backend/cpu/signals.ts defines the four.
// Shapes    q [tokens, heads * head_dim]; keys [units, page_size, padded]; stats [tokens, heads, 2] of attention; record
//           [units, page_size]; step_data as runtime/backend/webgpu/row_table.ts lays it out.
// Types     f32; keys Kv, f32 as written.
// Bindings  0 params, 1 q, 2 keys, 3 stats, 4 step_data, 5 record
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
  rows: u32, // word of step_data where the rows are
  chosen: u32, // word where the numbers of the rows to record are
  scale: f32,
  signal: u32, // 0 sum, 1 last, 2 max, 3 key norm
}

// How keys and values are stored; inHalf() may make it f16.
alias Kv = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> keys: array<Kv>;
@group(0) @binding(3) var<storage, read> stats: array<f32>;
@group(0) @binding(4) var<storage, read> step_data: array<u32>;
@group(0) @binding(5) var<storage, read_write> record: array<f32>;

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

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let kv_head = group.y;
  let row = params.rows + 6u * step_data[params.chosen + group.z];
  let start = step_data[row];
  let length = step_data[row + 1u];
  let grain = step_data[row + 2u];
  let table_group = select(select(params.layer * params.kv_heads + kv_head, params.layer, grain == 1u), 0u, grain == 0u);
  let unit_base = select(select(0u, kv_head, grain == 1u), params.home * params.kv_heads + kv_head, grain == 0u) * (params.slots / params.page_size);
  let entry = step_data[row + 3u] + 6u * table_group;
  let count = step_data[entry];
  let mask = step_data[row + 4u];
  let words = (length + 31u) / 32u;
  let before = count - length;
  let s = group.x * 64u + lane;
  if (s >= count) {
    return;
  }
  let page = step_data[step_data[entry + 1u] + s / params.page_size];
  let place = (unit_base + page) * params.page_size + s % params.page_size;
  let key = place * params.quads * 4u;
  if (params.signal == 3u) {
    if (s >= before) {
      var square = 0.0;
      for (var d = 0u; d < params.head_dim; d++) {
        let k = f32(keys[key + d]);
        square = fma(k, k, square);
      }
      record[place] = sqrt(square);
    }
    return;
  }
  // Whether the row reads the slot, if it reads some only: all from listed_to on, and those of an ascending list.
  let list = step_data[entry + 4u];
  var is_read = list == 0u || s >= step_data[entry + 5u];
  if (!is_read) {
    var low = 0u;
    var high = step_data[entry + 3u];
    for (var round = 0u; round < 32u; round++) {
      if (low < high) {
        let middle = (low + high) / 2u;
        if (step_data[list + middle] < s) {
          low = middle + 1u;
        } else {
          high = middle;
        }
      }
    }
    is_read = low < step_data[entry + 3u] && step_data[list + min(low, step_data[entry + 3u] - 1u)] == s;
  }
  let per_group = params.heads / params.kv_heads;
  var value = record[place];
  for (var t = 0u; t < length; t++) {
    var visible = s <= before + t;
    if (mask != 0u && s >= before) {
      let j = s - before;
      visible = ((step_data[mask + t * words + j / 32u] >> (j & 31u)) & 1u) == 1u;
    }
    if (visible && (is_read || s >= before)) {
      for (var g = 0u; g < per_group; g++) {
        let query = (start + t) * params.heads + kv_head * per_group + g;
        var dot4 = vec4f();
        for (var d = 0u; d < params.head_dim; d += 4u) {
          for (var c = 0u; c < min(4u, params.head_dim - d); c++) {
            dot4[c] = fma(q[query * params.head_dim + d + c], f32(keys[key + d + c]), dot4[c]);
          }
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
  record[place] = value;
}
