// gather_rows: picks rows of x by index.
//
//   y[i, c] = x[rows[i], c]
//
// Source    none needed.
// Shapes    x [height, cols]; rows [count] from word `at` of step_data; y [count, cols]
// Types     f32; u32 indices, checked on the host.
// Bindings  0 params, 1 x, 2 step_data, 3 y
// Dispatch  (ceil(cols / 64), count, 1)
// Limits    count <= 65535. x and y are different buffers.
// Order     copies.

struct Params {
  cols: u32,
  at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> step_data: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let c = group.x * 64u + lane;
  if (c < params.cols) {
    y[group.y * params.cols + c] = x[step_data[params.at + group.y] * params.cols + c];
  }
}
