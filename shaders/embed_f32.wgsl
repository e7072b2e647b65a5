// embed_f32: picks rows of a table by token.
//
//   y[t, c] = table[tokens[t], c]
//
// Source    none needed.
// Shapes    table [first .. first + height, cols] of a matrix cut by rows; tokens [count] from word `at` of step_data; y [count, cols]
// Types     f32.
// Bindings  0 params, 1 table, 2 step_data, 3 y
// Dispatch  (ceil(cols / 64), count, 1); one dispatch per part of the table, others' tokens are left alone
// Limits    count <= 65535. Tokens are checked on the host.
// Order     copies.

struct Params {
  cols: u32,
  at: u32,
  first: u32,
  height: u32,
  // First value of the part within the binding; scales is not used.
  start: u32,
  scales: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> table: array<f32>;
@group(0) @binding(2) var<storage, read> step_data: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let c = group.x * 64u + lane;
  let token = step_data[params.at + group.y];
  if (c < params.cols && token >= params.first && token - params.first < params.height) {
    let row = token - params.first;
    y[group.y * params.cols + c] = table[params.start + row * params.cols + c];
  }
}
