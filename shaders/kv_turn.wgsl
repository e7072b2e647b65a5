// kv_turn: rotates stored keys on by some positions.
//
//   (a, b) -> (a cos - b sin, b cos + a sin) with angle = shift[i] * frequency, for the keys of slots to[i]
//
// Source    Su et al. 2021, https://arxiv.org/abs/2104.09864, eq. 34: rotations add up, R(a) R(b) = R(a + b).
// Shapes    keys [units, page_size, padded], slots counted over all units; slots [count] from word `at` of step_data; turns [count,
//           2 * half] from word `turns`: cosines, then sines. Each slot is turned in `heads` units, `apart` slots apart.
// Types     f32; cosines and sines are rounded from double precision on the host; keys Kv, f32 as written.
// Bindings  0 params, 1 step_data, 2 keys
// Dispatch  (ceil(heads * half / 64), count, 1)
// Limits    count <= 65535. Slots are distinct and checked on the host.
// Order     as rope.

struct Params {
  heads: u32,
  apart: u32,
  padded: u32,
  half: u32,
  gap: u32, // distance of the two members of a pair: half, or 1 for neighbours
  at: u32,
  turns: u32,
}

// How keys and values are stored; inHalf() may make it f16.
alias Kv = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step_data: array<u32>;
@group(0) @binding(2) var<storage, read_write> keys: array<Kv>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let pair = group.x * 64u + lane;
  if (pair >= params.heads * params.half) {
    return;
  }
  let i = pair % params.half;
  let slot = (pair / params.half) * params.apart + step_data[params.at + group.y];
  let a_at = slot * params.padded + select(2u * i, i, params.gap == params.half);
  let b_at = a_at + params.gap;
  let turn = params.turns + group.y * 2u * params.half + i;
  let c = bitcast<f32>(step_data[turn]);
  let s = bitcast<f32>(step_data[turn + params.half]);
  let a = f32(keys[a_at]);
  let b = f32(keys[b_at]);
  keys[a_at] = Kv(fma(a, c, -(b * s)));
  keys[b_at] = Kv(fma(b, c, a * s));
}
