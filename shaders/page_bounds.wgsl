// page_bounds: the smallest and the largest key of a page, dimension by dimension.
//
//   bounds[unit, d] = min over slots s of keys[unit, s, d];  bounds[unit, padded + d] = max
//
// Source    Tang et al. 2024 (Quest), https://arxiv.org/abs/2406.10774, section 3.
// Shapes    keys [units, page_size, padded]; bounds [units, 2, padded]; units [count] from word `at` of step_data
// Types     f32.
// Bindings  0 params, 1 keys, 2 step_data, 3 bounds
// Dispatch  (ceil(padded / 64), count, 1): one lane per dimension
// Limits    count <= 65535. All slots of the pages hold keys.
// Order     none: comparisons.

struct Params {
  padded: u32, // head_dim up to a multiple of 4
  page_size: u32,
  at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> keys: array<f32>;
@group(0) @binding(2) var<storage, read> step_data: array<u32>;
@group(0) @binding(3) var<storage, read_write> bounds: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let d = group.x * 64u + lane;
  if (d >= params.padded) {
    return;
  }
  let unit = step_data[params.at + group.y];
  let first = unit * params.page_size * params.padded + d;
  var least = keys[first];
  var most = least;
  for (var s = 1u; s < params.page_size; s++) {
    let key = keys[first + s * params.padded];
    least = min(least, key);
    most = max(most, key);
  }
  bounds[2u * unit * params.padded + d] = least;
  bounds[(2u * unit + 1u) * params.padded + d] = most;
}
