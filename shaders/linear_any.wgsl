// linear_any: x times the transpose of a weight matrix of any depth.
//
//   y[t, n] = sum over k of x[t, k] * weight[n, k] + bias[n]
//
// Source    none needed.
// Shapes    x [tokens, depth]; weight [rows, depth]; bias [rows]; y [tokens, stride], of which this writes `rows` columns from `y`.
// Types     f32. For depths that are no multiple of 4, which linear_f32 cannot load as vectors.
// Bindings  0 params, 1 x, 2 weight, 3 bias, 4 y
// Dispatch  (ceil(rows / 8), tokens, 1): eight rows of one token per workgroup
// Limits    tokens <= 65535, depth <= 2^18.
// Order     eight lanes per row, lane w sums k = 8 i + w as one chain; then a tree over the lanes.

struct Params {
  depth: u32,
  rows: u32,
  weight: u32, // where it begins, in values
  bias: u32,
  has_bias: u32,
  y: u32,
  stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = min(group.x * 8u + lane / 8u, params.rows - 1u);
  let row_at = params.weight + row * params.depth;
  let x_from = group.y * params.depth;
  var sum = 0.0;
  for (var k = lane & 7u; k < params.depth; k += 8u) {
    sum = fma(x[x_from + k], weight[row_at + k], sum);
  }
  sums[lane] = sum;
  workgroupBarrier();
  let n = group.x * 8u + lane;
  if (lane < 8u && n < params.rows) {
    let at = lane * 8u;
    var total = ((sums[at] + sums[at + 1u]) + (sums[at + 2u] + sums[at + 3u])) +
      ((sums[at + 4u] + sums[at + 5u]) + (sums[at + 6u] + sums[at + 7u]));
    if (params.has_bias == 1u) {
      total += bias[params.bias + n];
    }
    y[params.y + group.y * params.stride + n] = total;
  }
}
