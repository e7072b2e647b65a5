// rms_norm: scale each row of x to unit root-mean-square, then multiply by weight.
//
//   y[r, c] = x[r, c] / sqrt(mean(x[r, :]^2) + eps) * weight[c]
//
// Source    Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467, eq. 4; eps inside the root as in Llama.
// Shapes    x, y [rows, cols]; weight [cols]. Row-major, no padding.
// Types     f32.
// Bindings  0 params, 1 x, 2 weight, 3 y
// Dispatch  (rows, 1, 1): one workgroup per row
// Limits    rows <= 65535; cols <= 64 * 32768. x and y are different buffers.
// Order     one chain per lane, then a tree over 64 lanes, fixed by cols: a row does not depend on the batch.

struct Params {
  cols: u32,
  eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

const WG = 64u;
var<workgroup> sums: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let base = group.x * params.cols;
  var sum = 0.0;
  for (var c = lane; c < params.cols; c += WG) {
    let v = x[base + c];
    sum = fma(v, v, sum);
  }
  sums[lane] = sum;
  workgroupBarrier();
  // Two levels of eight, so that there are two barriers and not six.
  if (lane < 8u) {
    let i = lane * 8u;
    let low = (sums[i] + sums[i + 1u]) + (sums[i + 2u] + sums[i + 3u]);
    let high = (sums[i + 4u] + sums[i + 5u]) + (sums[i + 6u] + sums[i + 7u]);
    sums[i] = low + high;
  }
  workgroupBarrier();
  let low = (sums[0] + sums[8]) + (sums[16] + sums[24]);
  let high = (sums[32] + sums[40]) + (sums[48] + sums[56]);
  let scale = 1.0 / sqrt((low + high) / f32(params.cols) + params.eps);
  for (var c = lane; c < params.cols; c += WG) {
    y[base + c] = x[base + c] * scale * weight[c];
  }
}
