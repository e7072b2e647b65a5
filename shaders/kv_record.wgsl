// kv_record: stores numbers about new tokens with their slots.
//
//   record[slot of t and h, :] = values[t, h, :]
//
// Source    runtime/backend/cpu/kv_write.ts defines it.
// Shapes    values [tokens, kv_heads * width]; record [units, page_size, width]; step_data as runtime/backend/webgpu/row_table.ts
//           lays it out. New tokens are the last slots of their row.
// Types     f32.
// Bindings  0 params, 1 values, 2 step_data, 3 record
// Dispatch  (ceil(kv_heads * width / 64), tokens, 1); tokens of no row are skipped
// Limits    tokens <= 65535. Pages are checked on the host.
// Order     copies.

struct Params {
  kv_heads: u32,
  width: u32,
  page_size: u32,
  slots: u32, // of a sequence: slots per page times pages
  layer: u32,
  home: u32, // number of the layer within this buffer
  token_rows: u32, // word of step_data where the row of each token is
  rows: u32, // word where the rows are
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> values: array<f32>;
@group(0) @binding(2) var<storage, read> step_data: array<u32>;
@group(0) @binding(3) var<storage, read_write> record: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = group.x * 64u + lane;
  let number = step_data[params.token_rows + group.y];
  if (i >= params.kv_heads * params.width || number == 0xffffffffu) {
    return;
  }
  let kv_head = i / params.width;
  let row = params.rows + 6u * number;
  let grain = step_data[row + 2u];
  let table_group = select(select(params.layer * params.kv_heads + kv_head, params.layer, grain == 1u), 0u, grain == 0u);
  let unit_base = select(select(0u, kv_head, grain == 1u), params.home * params.kv_heads + kv_head, grain == 0u) * (params.slots / params.page_size);
  let entry = step_data[row + 3u] + 6u * table_group;
  let s = step_data[entry] - step_data[row + 1u] + group.y - step_data[row];
  let page = unit_base + step_data[step_data[entry + 1u] + s / params.page_size];
  record[(page * params.page_size + s % params.page_size) * params.width + i % params.width] = values[group.y * params.kv_heads * params.width + i];
}
