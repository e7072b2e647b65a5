// kv_copy: copies what one pool buffer holds of some slots to other slots.
//
//   data[to[i] : + width] = data[from[i] : + width], places counted in `stride` words
//
// Source    none needed.
// Shapes    data: words; from, then to [count] from word `at` of step_data: slots (stride = width), or words (stride 1).
//           Each pair is copied `heads` times, `apart` places apart: the same page of other heads.
// Types     words: any 4-byte type.
// Bindings  0 params, 1 step_data, 2 data
// Dispatch  (ceil(heads * width / 64), count, 1)
// Limits    count <= 65535. No slot is both a source and a target; checked on the host.
// Order     copies.

struct Params {
  heads: u32,
  apart: u32,
  base: u32, // place that place 0 of the list is
  width: u32,
  count: u32,
  at: u32,
  stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step_data: array<u32>;
@group(0) @binding(2) var<storage, read_write> data: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = group.x * 64u + lane;
  if (i >= params.heads * params.width) {
    return;
  }
  let source = step_data[params.at + group.y];
  let to = step_data[params.at + params.count + group.y];
  let head = params.base + (i / params.width) * params.apart;
  let column = i % params.width;
  data[(head + to) * params.stride + column] = data[(head + source) * params.stride + column];
}
