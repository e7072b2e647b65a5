// rope_kv_write: rotates q and k, and stores k and v in the slots chosen for them. rope and kv_write in one dispatch.
//
//   q_out[t, h, :] = R(position) q[t, h, :]; keys[slot, :] = R(position) k[t, h, :]; values[slot, :] = v[t, h, :]
//
// Source    Su et al. 2021, https://arxiv.org/abs/2104.09864, eq. 34.
// Shapes    q, q_out [tokens, heads * head_dim]; k, v [tokens, kv_heads * head_dim]; table [positions, head_dim]: cosines, then
//           sines; keys, values [units, page_size, padded]; step_data as runtime/backend/webgpu/row_table.ts lays it out.
// Types     f32; keys and values Kv, f32 as written.
// Bindings  0 params, 1 q, 2 k, 3 v, 4 table, 5 step_data, 6 q_out, 7 keys, 8 values
// Dispatch  (ceil((heads + 2 * kv_heads) * head_dim / 2 / 64), tokens, 1)
// Limits    tokens <= 65535. Slots are checked on the host.
// Order     as rope, to the bit.

struct Params {
  heads: u32,
  kv_heads: u32,
  half: u32, // head_dim / 2
  apart: u32, // distance of the two members of a pair: half, or 1 for neighbours
  padded: u32, // head_dim up to a multiple of 4
  slots: u32, // of a sequence: slots per page times pages
  layer: u32,
  home: u32, // number of the layer within this buffer
  positions: u32, // word of step_data where the positions are
  token_rows: u32, // word where the row of each token is
  rows: u32, // word where the rows are
}

// How keys and values are stored; inHalf() may make it f16.
alias Kv = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read> table: array<f32>;
@group(0) @binding(5) var<storage, read> step_data: array<u32>;
@group(0) @binding(6) var<storage, read_write> q_out: array<f32>;
@group(0) @binding(7) var<storage, read_write> keys: array<Kv>;
@group(0) @binding(8) var<storage, read_write> values: array<Kv>;

// The slot of a token in one kv head, counted over all units of the buffer.
fn slot_of(token: u32, kv_head: u32) -> u32 {
  let row = params.rows + 6u * step_data[params.token_rows + token];
  let grain = step_data[row + 2u];
  let group = select(select(params.layer * params.kv_heads + kv_head, params.layer, grain == 1u), 0u, grain == 0u);
  let base = select(select(0u, kv_head, grain == 1u), params.home * params.kv_heads + kv_head, grain == 0u) * params.slots;
  let slots = step_data[step_data[row + 3u] + 6u * group + 2u];
  return base + step_data[slots + token - step_data[row]];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let pair = group.x * 64u + lane;
  let token = group.y;
  let i = pair % params.half;
  var head = pair / params.half;
  let head_dim = params.half * 2u;
  let a_in = select(2u * i, i, params.apart == params.half);
  let b_in = a_in + params.apart;
  let turn = step_data[params.positions + token] * head_dim + i;
  let c = table[turn];
  let s = table[turn + params.half];
  if (head < params.heads) {
    let at = (token * params.heads + head) * head_dim;
    let a = q[at + a_in];
    let b = q[at + b_in];
    q_out[at + a_in] = fma(a, c, -(b * s));
    q_out[at + b_in] = fma(b, c, a * s);
    return;
  }
  head -= params.heads;
  if (head < params.kv_heads) {
    let at = (token * params.kv_heads + head) * head_dim;
    let to = slot_of(token, head) * params.padded;
    let a = k[at + a_in];
    let b = k[at + b_in];
    keys[to + a_in] = Kv(fma(a, c, -(b * s)));
    keys[to + b_in] = Kv(fma(b, c, a * s));
    return;
  }
  head -= params.kv_heads;
  if (head < params.kv_heads) {
    let at = (token * params.kv_heads + head) * head_dim;
    let to = slot_of(token, head) * params.padded;
    values[to + a_in] = Kv(v[at + a_in]);
    values[to + b_in] = Kv(v[at + b_in]);
  }
}
