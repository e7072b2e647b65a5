// row_stats_merge: joins what row_stats found in the parts of a row.
//
//   sum = sum over parts of their sum times e^((their largest - largest) / temperature); weighted likewise
//
// Source    as row_stats.
// Shapes    parts [draws, count, 8]; stats [draws, 24], of which this writes 8 from `at`;
//           step_data as runtime/backend/webgpu/draws.ts lays it out, 16 words per draw from word `draws`.
// Types     f32; places and counts as bits.
// Bindings  0 params, 1 parts, 2 step_data, 3 stats
// Dispatch  (draws, 1, 1)
// Limits    draws <= 65535; count <= 32768.
// Order     parts in order. Ties: the lowest place.

// Temperature of the draw; else 1.
override TEMPERED: bool = false;

struct Params {
  count: u32,
  at: u32,
  draws: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> parts: array<f32>;
@group(0) @binding(2) var<storage, read> step_data: array<u32>;
@group(0) @binding(3) var<storage, read_write> stats: array<f32>;

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
  let scale = select(1.0, bitcast<f32>(step_data[params.draws + 16u * group.x + 4u]), TEMPERED);
  let start = group.x * params.count * 8u;
  var top = parts[start];
  var best = 0u;
  for (var i = 1u; i < params.count; i++) {
    if (parts[start + 8u * i] > top) {
      top = parts[start + 8u * i];
      best = i;
    }
  }
  var runner = -3.4e38;
  var sum = 0.0;
  var tilted = 0.0;
  var wrong = 0u;
  for (var i = 0u; i < params.count; i++) {
    let one = start + 8u * i;
    runner = max(runner, select(parts[one], parts[one + 2u], i == best));
    let d = (parts[one] - top) * scale;
    if (d > -87.0) {
      let e = exp_exact(d);
      sum = fma(e, parts[one + 3u], sum);
      tilted = fma(e, fma(d, parts[one + 3u], parts[one + 4u]), tilted);
    }
    wrong += bitcast<u32>(parts[one + 5u]);
  }
  let out = group.x * 24u + params.at;
  stats[out] = top;
  stats[out + 1u] = parts[start + 8u * best + 1u];
  stats[out + 2u] = runner;
  stats[out + 3u] = sum;
  stats[out + 4u] = tilted;
  stats[out + 5u] = bitcast<f32>(wrong);
  stats[out + 6u] = 0.0;
  stats[out + 7u] = 0.0;
}
