// draw_result: which token a draw came to, its raw logit, and whether rounding might have decided.
//
//   token = place of the largest perturbed logit, or at temperature 0 of the largest adjusted one
//
// Source    none needed.
// Shapes    x [rows, stride]; cuts [draws, 4] of sampling_cut; flags [draws] of perturb_logits; stats [draws, 24]: raw, adjusted and
//           perturbed row in 8 words each; this writes word 6 token, 7 its raw logit, 14 flag, 15 distance to the second;
//           step_data as runtime/backend/webgpu/draws.ts lays it out, 16 words per draw from word `draws`.
// Types     f32; tokens and flags as bits.
// Bindings  0 params, 1 x, 2 cuts, 3 flags, 4 step_data, 5 stats
// Dispatch  (ceil(count / 64), 1, 1)
// Limits    count <= 64 * 65535.
// Order     none.

// All draws are at temperature 0: there are no cuts, no flags and no perturbed rows.
override GREEDY: bool = false;
// And nothing was adjusted: the raw rows are all there is.
override PLAIN: bool = false;

struct Params {
  count: u32,
  stride: u32,
  draws: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> cuts: array<f32>;
@group(0) @binding(3) var<storage, read> flags: array<u32>;
@group(0) @binding(4) var<storage, read> step_data: array<u32>;
@group(0) @binding(5) var<storage, read_write> stats: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let d = id.x;
  if (d >= params.count) {
    return;
  }
  let draw = params.draws + 16u * d;
  let greedy = step_data[draw + 12u] == 0u;
  let at = d * 24u + select(select(16u, 8u, greedy), 0u, PLAIN);
  let token = bitcast<u32>(stats[at + 1u]);
  var flag = 0u;
  if (!GREEDY) {
    flag = select(bitcast<u32>(cuts[d * 4u + 2u]) | flags[d], 0u, greedy);
  }
  stats[d * 24u + 6u] = bitcast<f32>(token);
  stats[d * 24u + 7u] = x[step_data[draw] * params.stride + min(token, params.stride - 1u)];
  stats[d * 24u + 14u] = bitcast<f32>(flag);
  stats[d * 24u + 15u] = stats[at] - stats[at + 2u];
}
