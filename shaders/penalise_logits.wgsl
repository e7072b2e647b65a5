// penalise_logits: adds biases and applies penalties to the tokens of a list.
//
//   v = y[d, t] + bias;  v = v > 0 ? v / repetition : v * repetition;  y[d, t] = v - less
//
// Source    runtime/sampling/adjust.ts: bias, repetition penalty, then frequency and presence penalties.
// Shapes    y [draws, vocab]; lists of 4 words per token: id, bias, repetition, less;
//           step_data as runtime/backend/webgpu/draws.ts lays it out, 16 words per draw from word `draws`.
// Types     f32. Forbidden tokens (-3.4e38) stay so.
// Bindings  0 params, 1 step_data, 2 y
// Dispatch  (1, draws, 1)
// Limits    draws <= 65535; a list of at most 64 * 32768 tokens, each once.
// Order     one token per lane.

struct Params {
  vocab: u32,
  draws: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step_data: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let draw = params.draws + 16u * group.y;
  let list = step_data[draw + 10u];
  let count = step_data[draw + 11u];
  for (var i = lane; i < count; i += 64u) {
    let entry = list + 4u * i;
    let at = group.y * params.vocab + step_data[entry];
    let value = y[at];
    if (value > -3.3e38) {
      let biased = value + bitcast<f32>(step_data[entry + 1u]);
      let repetition = bitcast<f32>(step_data[entry + 2u]);
      let scaled = select(biased * repetition, biased / repetition, biased > 0.0);
      y[at] = scaled - bitcast<f32>(step_data[entry + 3u]);
    }
  }
}
