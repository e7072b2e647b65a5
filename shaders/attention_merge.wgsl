// attention_merge: joins the parts that attention wrote with SPLIT.
//
//   largest' = max(largest, part's); sums and mixed values are scaled to it and added, part by part
//
// Source    Milakov & Gimelshein 2018, https://arxiv.org/abs/1805.02867, section 3.
// Shapes    mixed [tokens, heads, pieces, head_dim]; part_stats [tokens, heads, pieces, 2]; y [tokens, heads * head_dim];
//           stats [tokens, heads, 2].
// Types     f32.
// Bindings  0 params, 1 mixed, 2 part_stats, 3 step_data, 4 y, 5 stats
// Dispatch  (heads, tokens, 1), the tokens that attention was given
// Limits    head_dim <= 256; pieces <= 32768; tokens <= 65535.
// Order     part by part in the order of the sequence: as attention without SPLIT, to the bit. Parts beyond a token's end have
//           sum 0 and change nothing.

struct Params {
  heads: u32,
  head_dim: u32,
  pieces: u32,
  chosen: u32, // word of step_data where the numbers of the tokens are, 0: all from the first one on
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> mixed: array<f32>;
@group(0) @binding(2) var<storage, read> part_stats: array<f32>;
@group(0) @binding(3) var<storage, read> step_data: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> stats: array<f32>;

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
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let query = group.y * params.heads + group.x;
  var largest = -3.4e38;
  var total = 0.0;
  var joined = vec4f(); // dimensions lane, lane + 64, lane + 128, lane + 192
  for (var part = 0u; part < params.pieces; part++) {
    let at = query * params.pieces + part;
    let part_total = part_stats[at * 2u + 1u];
    if (part_total > 0.0) {
      let part_largest = part_stats[at * 2u];
      let most = max(largest, part_largest);
      let old = exp_exact(largest - most);
      let new_ = exp_exact(part_largest - most);
      let start = at * params.head_dim + lane;
      var value = vec4f();
      if (lane < params.head_dim) {
        value.x = mixed[start];
      }
      if (lane + 64u < params.head_dim) {
        value.y = mixed[start + 64u];
      }
      if (lane + 128u < params.head_dim) {
        value.z = mixed[start + 128u];
      }
      if (lane + 192u < params.head_dim) {
        value.w = mixed[start + 192u];
      }
      total = fma(total, old, part_total * new_);
      joined = fma(joined, vec4f(old), value * new_);
      largest = most;
    }
  }
  var token = group.y;
  if (params.chosen != 0u) {
    token = step_data[params.chosen + group.y];
  }
  let query_at = token * params.heads + group.x;
  if (lane == 0u) {
    stats[query_at * 2u] = largest;
    stats[query_at * 2u + 1u] = total;
  }
  let to = query_at * params.head_dim + lane;
  if (lane < params.head_dim) {
    y[to] = joined.x / total;
  }
  if (lane + 64u < params.head_dim) {
    y[to + 64u] = joined.y / total;
  }
  if (lane + 128u < params.head_dim) {
    y[to + 128u] = joined.z / total;
  }
  if (lane + 192u < params.head_dim) {
    y[to + 192u] = joined.w / total;
  }
}
