// embed_q4: picks rows of a table of 4-bit blocks by token.
//
//   y[t, c] = table[tokens[t], c]
//
// Source    none needed.
// Shapes    table [first .. first + height, cols] of a matrix cut by rows; tokens [count] from word `at` of step_data; y [count, cols]
// Types     eight 4-bit integers plus 8 per word: columns 0 to 3 in the low and 4 to 7 in the high halves of its bytes; one f32 scale per 32 columns behind all integers; y f32.
// Bindings  0 params, 1 table, 2 step_data, 3 y
// Dispatch  (ceil(cols / 64), count, 1); one dispatch per part of the table, others' tokens are left alone
// Limits    count <= 65535. Tokens are checked on the host.
// Order     copies.

struct Params {
  cols: u32,
  at: u32,
  first: u32,
  height: u32,
  // First word of the part within the binding, and of its scales.
  start: u32,
  scales: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> step_data: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let c = group.x * 64u + lane;
  let token = step_data[params.at + group.y];
  if (c < params.cols && token >= params.first && token - params.first < params.height) {
    let row = token - params.first;
    let word = table[params.start + row * (params.cols / 8u) + c / 8u];
    let scale = bitcast<f32>(table[params.scales + row * (params.cols / 32u) + c / 32u]);
    let q = extractBits(word, (c & 3u) * 8u + (c & 4u), 4u);
    y[group.y * params.cols + c] = scale * (f32(q) - 8.0);
  }
}
