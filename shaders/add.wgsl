// add: z = x + y, element by element.
//
//   z[i] = x[i] + y[i]
//
// Source    none needed.
// Shapes    x, y, z [size]
// Types     f32.
// Bindings  0 params, 1 x, 2 y, 3 z
// Dispatch  (min(ceil(size / 64), 32768), the rest in y, 1)
// Limits    z is another buffer than x and y.
// Order     one rounding per element.

struct Params {
  size: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> z: array<f32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i < params.size) {
    z[i] = x[i] + y[i];
  }
}
