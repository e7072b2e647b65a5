// rms_norm_subgroup: rms_norm where lanes can pass each other values: scale each row of x to unit root-mean-square, then multiply by weight.
//
//   y[r, c] = x[r, c] / sqrt(mean(x[r, :]^2) + eps) * weight[c]
//
// Source    Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467, eq. 4; eps inside the root as in Llama.
// Shapes    x, y [rows, cols]; weight [cols]. Row-major, no padding.
// Types     f32.
// Bindings  0 params, 1 x, 2 weight, 3 y
// Dispatch  (rows, 1, 1): one workgroup per row
// Limits    rows <= 65535; cols <= 64 * 32768. x and y are different buffers.
//           Subgroups of at least 8 lanes in the order of the workgroup, as the probe in subgroups.ts finds out.
// Order     that of rms_norm, to the bit: one chain per lane, then a tree over 64 lanes, however many a subgroup has.

struct Params {
  cols: u32,
  eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

const WG = 64u;
var<workgroup> sums: array<f32, 8>;

// The sum over eight lanes, which each of them gets.
fn over_eight(v: f32) -> f32 {
  let pairs = v + subgroupShuffleXor(v, 1u);
  let fours = pairs + subgroupShuffleXor(pairs, 2u);
  return fours + subgroupShuffleXor(fours, 4u);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let base = group.x * params.cols;
  var sum = 0.0;
  for (var c = lane; c < params.cols; c += WG) {
    let v = x[base + c];
    sum = fma(v, v, sum);
  }
  let eight = over_eight(sum);
  if ((lane & 7u) == 0u) {
    sums[lane / 8u] = eight;
  }
  workgroupBarrier();
  let low = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  let high = (sums[4] + sums[5]) + (sums[6] + sums[7]);
  let scale = 1.0 / sqrt((low + high) / f32(params.cols) + params.eps);
  for (var c = lane; c < params.cols; c += WG) {
    y[base + c] = x[base + c] * scale * weight[c];
  }
}
