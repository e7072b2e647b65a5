// swiglu: silu(gate) * up with silu(v) = v / (1 + e^-v), element by element.
//
//   y[i] = gate[i] / (1 + e^-gate[i]) * up[i]
//
// Source    Shazeer 2020, https://arxiv.org/abs/2002.05202, without the linear layers.
// Shapes    gate, up, y [size]
// Types     f32.
// Bindings  0 params, 1 gate, 2 up, 3 y
// Dispatch  (min(ceil(size / 64), 32768), the rest in y, 1)
// Limits    y is another buffer than gate and up.
// Order     element by element.

struct Params {
  size: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate: array<f32>;
@group(0) @binding(2) var<storage, read> up: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

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
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i < params.size) {
    let g = gate[i];
    y[i] = g / (1.0 + exp_exact(-g)) * up[i];
  }
}
