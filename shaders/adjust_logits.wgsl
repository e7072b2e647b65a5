// adjust_logits: a row of logits per draw, without the tokens that a mask forbids.
//
//   y[d, i] = x[row of d, i] if bit i of the draw's mask is set or there is none, else -3.4e38
//
// Source    runtime/sampling/adjust.ts defines the order; bias and penalties follow in penalise_logits.
// Shapes    x [rows, stride]; y [draws, vocab];
//           step_data as runtime/backend/webgpu/draws.ts lays it out, 16 words per draw from word `draws`.
// Types     f32; masks have one bit per token, least significant first.
// Bindings  0 params, 1 x, 2 step_data, 3 y
// Dispatch  (ceil(vocab / 1024), draws, 1)
// Limits    draws <= 65535. x and y are different buffers.
// Order     copies; -Infinity becomes -3.4e38.

struct Params {
  vocab: u32,
  stride: u32,
  draws: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> step_data: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let draw = params.draws + 16u * group.y;
  let row = step_data[draw] * params.stride;
  let mask = step_data[draw + 9u];
  for (var k = 0u; k < 16u; k++) {
    let i = group.x * 1024u + k * 64u + lane;
    if (i < params.vocab) {
      var value = max(x[row + i], -3.4e38);
      if (mask != 0u && ((step_data[mask + i / 32u] >> (i & 31u)) & 1u) == 0u) {
        value = -3.4e38;
      }
      y[group.y * params.vocab + i] = value;
    }
  }
}
