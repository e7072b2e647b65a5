// sampling_cut: the smallest logit that top-k, top-p and min-p leave in the draw.
//
//   top-k: the k-th largest; top-p: where probabilities of the rest reach p; min-p: largest + temperature ln p
//
// Source    runtime/sampling/filters.ts defines them: one after the other, each on what is left, ties kept.
// Shapes    top [draws, 64] largest first; stats [draws, 24] with those of the tempered row from word 8; cuts [draws, 4]: cut, cut of
//           min-p alone, 1 if the 64 largest do not tell or rounding might decide, 0; flags [draws], cleared for perturb_logits;
//           step_data as runtime/backend/webgpu/draws.ts lays it out, 16 words per draw from word `draws`.
// Types     f32; the flag as bits.
// Bindings  0 params, 1 top, 2 stats, 3 step_data, 4 cuts, 5 flags
// Dispatch  (draws, 1, 1)
// Limits    draws <= 65535.
// Order     from the largest down.

struct Params {
  vocab: u32,
  draws: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> top: array<f32>;
@group(0) @binding(2) var<storage, read> stats: array<f32>;
@group(0) @binding(3) var<storage, read> step_data: array<u32>;
@group(0) @binding(4) var<storage, read_write> cuts: array<f32>;
@group(0) @binding(5) var<storage, read_write> flags: array<u32>;

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

@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) group: vec3u) {
  let draw = params.draws + 16u * group.x;
  let scale = bitcast<f32>(step_data[draw + 4u]);
  let temperature = bitcast<f32>(step_data[draw + 5u]);
  let k = step_data[draw + 6u];
  let p = bitcast<f32>(step_data[draw + 7u]);
  let min_p = bitcast<f32>(step_data[draw + 8u]);
  let list = group.x * 64u;
  let best = top[list];
  let known = min(64u, params.vocab);
  var cut = -3.3e38;
  var unsure = 0u;
  let limits = k > 0u && k < params.vocab;
  if (limits) {
    if (k > known) {
      unsure = 1u;
    } else {
      cut = max(cut, top[list + k - 1u]);
      // Others may tie with the last of the list.
      if (top[list + known - 1u] >= cut && params.vocab > known) {
        unsure = 1u;
      }
    }
  }
  if (p < 1.0) {
    var total = stats[group.x * 24u + 11u];
    if (limits) {
      total = 0.0;
      for (var j = 0u; j < known; j++) {
        if (top[list + j] >= cut) {
          total += exp_exact((top[list + j] - best) * scale);
        }
      }
    }
    let goal = p * total;
    let near = 1e-5 * total;
    var mass = 0.0;
    var found = false;
    for (var j = 0u; j < known; j++) {
      if (!found && top[list + j] >= cut) {
        mass += exp_exact((top[list + j] - best) * scale);
        if (abs(mass - goal) < near) {
          unsure = 1u;
        }
        if (mass >= goal) {
          found = true;
          cut = top[list + j];
        }
      }
    }
    if (!found) {
      unsure = 1u;
    }
  }
  var least = -3.3e38;
  if (min_p > 0.0) {
    least = best + temperature * log(min_p);
  }
  let out = group.x * 4u;
  cuts[out] = cut;
  cuts[out + 1u] = least;
  cuts[out + 2u] = bitcast<f32>(unsure);
  cuts[out + 3u] = 0.0;
  flags[group.x] = 0u;
}
