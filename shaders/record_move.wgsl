// record_move: what is recorded about slots goes to the record of another format.
//
//   other[to[i], :] = record[from[i], :]
//
// Source    none needed.
// Shapes    record [units, page_size, width]; other [units, slots per page of the format, width]; from, then to [count] from word
//           `at` of step_data. Each pair is copied `heads` times, `apart` and `other_apart` slots apart: the same page of other heads.
// Types     words: any 4-byte type.
// Bindings  0 params, 1 step_data, 2 record, 3 other
// Dispatch  (ceil(heads * width / 64), count, 1)
// Limits    count <= 65535. Slots are checked on the host.
// Order     copies.

struct Params {
  heads: u32,
  apart: u32,
  other_apart: u32,
  width: u32,
  count: u32,
  at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step_data: array<u32>;
@group(0) @binding(2) var<storage, read> record: array<u32>;
@group(0) @binding(3) var<storage, read_write> other: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = group.x * 64u + lane;
  if (i >= params.heads * params.width) {
    return;
  }
  let head = i / params.width;
  let column = i % params.width;
  let source = head * params.apart + step_data[params.at + group.y];
  let to = head * params.other_apart + step_data[params.at + params.count + group.y];
  other[to * params.width + column] = record[source * params.width + column];
}
