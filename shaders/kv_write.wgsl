// kv_write: stores the K and V of new tokens in the slots chosen for them.
//
//   keys[slot, :] = k[t, h, :]; values likewise
//
// Source    none needed.
// Shapes    k, v [tokens, kv_heads * head_dim]; keys, values [units, page_size, padded]; step_data as runtime/backend/webgpu/row_table.ts
//           lays it out.
// Types     f32; keys and values Kv, f32 as written.
// Bindings  0 params, 1 k, 2 v, 3 step_data, 4 keys, 5 values
// Dispatch  (ceil(kv_heads * head_dim / 64), tokens, 1)
// Limits    tokens <= 65535. Slots are checked on the host.
// Order     copies, rounded to Kv.

struct Params {
  kv_heads: u32,
  head_dim: u32,
  padded: u32, // head_dim up to a multiple of 4
  slots: u32, // of a sequence: slots per page times pages
  layer: u32,
  home: u32, // number of the layer within this buffer
  token_rows: u32, // word of step_data where the row of each token is
  rows: u32, // word where the rows are
}

// How keys and values are stored; inHalf() may make it f16.
alias Kv = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> step_data: array<u32>;
@group(0) @binding(4) var<storage, read_write> keys: array<Kv>;
@group(0) @binding(5) var<storage, read_write> values: array<Kv>;

// The slot of a token in one kv head, counted over all units of the buffer.
fn slot_of(token: u32, kv_head: u32) -> u32 {
  let row = params.rows + 6u * step_data[params.token_rows + token];
  let grain = step_data[row + 2u];
  let group = select(select(params.layer * params.kv_heads + kv_head, params.layer, grain == 1u), 0u, grain == 0u);
  let base = select(select(0u, kv_head, grain == 1u), params.home * params.kv_heads + kv_head, grain == 0u) * params.slots;
  let slots = step_data[step_data[row + 3u] + 6u * group + 2u];
  return base + step_data[slots + token - step_data[row]];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = group.x * 64u + lane;
  let width = params.kv_heads * params.head_dim;
  if (i >= width) {
    return;
  }
  let head = i / params.head_dim;
  let to = slot_of(group.y, head) * params.padded + i % params.head_dim;
  keys[to] = Kv(k[group.y * width + i]);
  values[to] = Kv(v[group.y * width + i]);
}
