// advance: makes the step's data those of the next step, with the tokens that were drawn.
//
//   token = drawn; position += 1; slot += 1; slots counted += 1; position of the draw += 1
//
// Source    none needed: it lets a step follow another without the host.
// Shapes    stats [rows, 24] of draw_result; step_data as runtime/backend/webgpu/row_table.ts and draws.ts lay it out, with one token
//           and one draw per row, in one order.
// Types     u32.
// Bindings  0 params, 1 stats, 2 step_data
// Dispatch  (ceil(count / 64), 1, 1)
// Limits    tables of whole sequences; the next slot is in the same page, which the host sees to.
// Order     one row per lane.

struct Params {
  count: u32,
  tokens: u32, // words where tokens, positions, rows and draws begin
  positions: u32,
  rows: u32,
  draws: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> stats: array<u32>;
@group(0) @binding(2) var<storage, read_write> step_data: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x;
  if (i >= params.count) {
    return;
  }
  step_data[params.tokens + i] = stats[i * 24u + 6u];
  step_data[params.positions + i] += 1u;
  step_data[params.draws + 16u * i + 3u] += 1u;
  let entry = step_data[params.rows + 6u * i + 3u];
  step_data[entry] += 1u;
  step_data[step_data[entry + 2u]] += 1u;
}
