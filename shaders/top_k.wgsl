// top_k: the 64 largest values of every 1,024 of a row, largest first, with their ids.
//
//   rank of i = values larger than x[i], and equal ones of lower id; the first 64 ranks are kept
//
// Source    none needed; run again on its results (PAIRS) until one list of 64 is left.
// Shapes    x [rows, stride], ids likewise; rows of x by their numbers from word `rows` of step_data, 0: in order; top [rows, ceil(count / 1024) * 64] values, top_ids likewise
// Types     f32, u32. Places without a value have -3.4e38 and id 0xffffffff.
// Bindings  0 params, 1 x, 2 ids, 3 step_data, 4 top, 5 top_ids
// Dispatch  (ceil(count / 1024), rows, 1)
// Limits    rows <= 65535.
// Order     by comparisons alone, 1,024 per value. Ties: the lower id.

// Ids come with the values; else they are places in the row.
override PAIRS: bool = false;

struct Params {
  count: u32,
  stride: u32,
  rows: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read> step_data: array<u32>;
@group(0) @binding(4) var<storage, read_write> top: array<f32>;
@group(0) @binding(5) var<storage, read_write> top_ids: array<u32>;

var<workgroup> values: array<f32, 1024>;
var<workgroup> names: array<u32, 1024>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let out = (group.y * groups.x + group.x) * 64u;
  var row = group.y;
  if (params.rows != 0u) {
    row = step_data[params.rows + group.y];
  }
  top[out + lane] = -3.4e38;
  top_ids[out + lane] = 0xffffffffu;
  for (var k = 0u; k < 16u; k++) {
    let i = group.x * 1024u + k * 64u + lane;
    var value = -3.4e38;
    var name = 0xffffffffu;
    if (i < params.count) {
      value = x[row * params.stride + i];
      name = i;
      if (PAIRS) {
        name = ids[row * params.stride + i];
      }
    }
    values[k * 64u + lane] = value;
    names[k * 64u + lane] = name;
  }
  storageBarrier();
  workgroupBarrier();
  let here = min(1024u, params.count - group.x * 1024u);
  for (var k = lane; k < here; k += 64u) {
    let value = values[k];
    let name = names[k];
    var rank = 0u;
    for (var j = 0u; j < here; j++) {
      if (values[j] > value || (values[j] == value && names[j] < name)) {
        rank += 1u;
      }
    }
    if (rank < 64u && name != 0xffffffffu) {
      top[out + rank] = value;
      top_ids[out + rank] = name;
    }
  }
}
