// rope: rotates pairs of every head by an angle proportional to the token's position.
//
//   (a, b) -> (a cos - b sin, b cos + a sin)
//
// Source    Su et al. 2021, https://arxiv.org/abs/2104.09864, eq. 34.
// Shapes    x, y [tokens, heads * head_dim]; table [positions, head_dim]: cosines, then sines; positions [tokens]
//           from word `at` of step_data.
// Types     f32; cosines and sines are rounded from double precision on the host.
// Bindings  0 params, 1 x, 2 table, 3 step_data, 4 y
// Dispatch  (ceil(heads * head_dim / 2 / 64), tokens, 1)
// Limits    tokens <= 65535. x and y are different buffers.
// Order     two products and one addition, of which one product is not rounded (fma).

struct Params {
  width: u32, // heads * head_dim
  half: u32, // head_dim / 2
  apart: u32, // distance of the two members of a pair: half, or 1 for neighbours
  at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read> step_data: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let pair = group.x * 64u + lane;
  if (pair * 2u >= params.width) {
    return;
  }
  let i = pair % params.half;
  let head = group.y * params.width + (pair / params.half) * params.half * 2u;
  let a_at = head + select(2u * i, i, params.apart == params.half);
  let b_at = a_at + params.apart;
  let turn = step_data[params.at + group.y] * params.half * 2u + i;
  let c = table[turn];
  let s = table[turn + params.half];
  let a = x[a_at];
  let b = x[b_at];
  y[a_at] = fma(a, c, -(b * s));
  y[b_at] = fma(b, c, a * s);
}
