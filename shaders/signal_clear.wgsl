// signal_clear: forgets what was recorded about slots that are written anew.
//
//   record[slot of t and h, :] = 0
//
// Source    none needed.
// Shapes    record [units, page_size, width]; step_data as runtime/backend/webgpu/row_table.ts lays it out.
// Types     f32.
// Bindings  0 params, 1 step_data, 2 record
// Dispatch  (ceil(kv_heads * width / 64), tokens, 1)
// Limits    tokens <= 65535. Slots are checked on the host.
// Order     none.

struct Params {
  kv_heads: u32,
  slots: u32, // of a sequence: slots per page times pages
  layer: u32,
  home: u32, // number of the layer within this buffer
  token_rows: u32, // word of step_data where the row of each token is
  rows: u32, // word where the rows are
  width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step_data: array<u32>;
@group(0) @binding(2) var<storage, read_write> record: array<f32>;

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
  if (i < params.kv_heads * params.width) {
    record[slot_of(group.y, i / params.width) * params.width + i % params.width] = 0.0;
  }
}
