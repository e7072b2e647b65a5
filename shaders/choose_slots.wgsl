// choose_slots: of the slots a token sees, the first, the newest and the best between them.
//
//   all slots if no more than the budget; else sinks, the largest scores, window: `budget` slots, ascending. Ties: the newer slot.
//
// Source    runtime/backend/cpu/row_slots.ts, chooseSlots(), defines it.
// Shapes    scores [ruled tokens, kv_heads, space], by slot, of read_scores; lists [ruled tokens, kv_heads, room]: how many, 2^32 - 1
//           for all; then the slots. step_data as runtime/backend/webgpu/row_table.ts and read_table.ts lay it out.
// Types     f32 scores, u32.
// Bindings  0 params, 1 scores, 2 step_data, 3 lists
// Dispatch  (kv_heads, ruled tokens, 1): one workgroup per token and head
// Limits    slots of a row <= 64 * 32768.
// Order     by comparisons alone: the smallest score that is read is found bit by bit.

struct Params {
  kv_heads: u32,
  layer: u32,
  ruled: u32, // word of step_data where the ruled tokens are
  first: u32, // number of the first list of `scores`
  space: u32, // slots there is room for in `scores`
  room: u32, // words of a list
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> scores: array<f32>;
@group(0) @binding(2) var<storage, read> step_data: array<u32>;
@group(0) @binding(3) var<storage, read_write> lists: array<u32>;

// Per lane: how many of its slots lie above the threshold, and on it.
var<workgroup> above: array<u32, 64>;
var<workgroup> equal: array<u32, 64>;

// What a token sees: a list of slots, all from some slot on, and the row's own.
struct Sight {
  listed: u32,
  list: u32,
  listed_to: u32,
  before: u32,
  held: u32,
  own_list: u32,
  all: u32, // where some slots are hidden, the list of all that it sees
}

fn slot_of(sight: Sight, index: u32) -> u32 {
  if (sight.all != 0u) {
    return step_data[sight.all + index];
  }
  if (index < sight.listed) {
    return step_data[sight.list + index];
  }
  if (sight.own_list != 0u && index >= sight.held) {
    return sight.before + step_data[sight.own_list + index - sight.held];
  }
  return index - sight.listed + sight.listed_to;
}

// Larger floats are larger words; -0 is 0.
fn order_of(score: f32) -> u32 {
  let bits = bitcast<u32>(score + 0.0);
  return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let kv_head = group.x;
  let token = step_data[params.ruled + 2u * group.y];
  let view = step_data[params.ruled + 2u * group.y + 1u];
  let row = step_data[view];
  let grain = step_data[row + 2u];
  let table_group = select(select(params.layer * params.kv_heads + kv_head, params.layer, grain == 1u), 0u, grain == 0u);
  let older = step_data[view + 3u] + 5u * table_group;
  let own = token - step_data[row];
  let seen = step_data[row + 5u];
  var own_count = own + 1u;
  var sight = Sight();
  if (seen != 0u) {
    own_count = step_data[seen + 2u * own];
    sight.own_list = step_data[seen + 2u * own + 1u];
  }
  sight.listed = step_data[older + 2u];
  sight.list = step_data[older + 3u];
  sight.listed_to = step_data[older + 4u];
  sight.before = step_data[older] + step_data[step_data[row + 3u] + 6u * table_group] - step_data[row + 1u];
  sight.held = sight.listed + sight.before - sight.listed_to;
  var count = sight.held + own_count;
  let sights = step_data[view + 9u];
  if (sights != 0u) {
    count = step_data[sights + 2u * own];
    sight.all = step_data[sights + 2u * own + 1u];
  }
  let number = step_data[view + 5u] + own - step_data[view + 4u];
  let start = ((number - params.first) * params.kv_heads + kv_head) * params.space;
  let out = (number * params.kv_heads + kv_head) * params.room;
  let budget = step_data[view + 6u];
  // The same for all lanes: the whole workgroup returns, or none of it.
  if (count <= budget) {
    if (lane == 0u) {
      lists[out] = 0xffffffffu;
    }
    return;
  }
  let sinks = min(step_data[view + 7u], count);
  let window = max(1u, step_data[view + 8u]);
  let recent = max(sinks, count - min(count, window));
  let fixed = sinks + count - recent;
  let free = min(budget - min(budget, fixed), recent - sinks);
  // Each lane has a run of the slots between.
  let run = (recent - sinks + 63u) / 64u;
  let begin = min(recent, sinks + lane * run);
  let end = min(recent, begin + run);

  // The largest threshold that at least `free` scores reach, from its highest bit down.
  var threshold = 0u;
  for (var bit = 0u; bit < 32u; bit++) {
    let trial = threshold | (0x80000000u >> bit);
    var reached = 0u;
    for (var i = begin; i < end; i++) {
      if (order_of(scores[start + slot_of(sight, i)]) >= trial) {
        reached += 1u;
      }
    }
    above[lane] = reached;
    workgroupBarrier();
    var total = 0u;
    for (var l = 0u; l < 64u; l++) {
      total += above[l];
    }
    if (total >= free) {
      threshold = trial;
    }
    workgroupBarrier();
  }
  var larger = 0u;
  var same = 0u;
  for (var i = begin; i < end; i++) {
    let order = order_of(scores[start + slot_of(sight, i)]);
    larger += select(0u, 1u, order > threshold);
    same += select(0u, 1u, order == threshold);
  }
  above[lane] = larger;
  equal[lane] = same;
  workgroupBarrier();
  var all_above = 0u;
  var all_equal = 0u;
  var equal_before = 0u;
  for (var l = 0u; l < 64u; l++) {
    all_above += above[l];
    all_equal += equal[l];
    equal_before += select(0u, equal[l], l < lane);
  }
  // Of those on the threshold the newest are read: all but the first `skipped`.
  let skipped = all_equal - (free - min(free, all_above));
  var at = out + 1u + sinks;
  for (var l = 0u; l < 64u; l++) {
    if (l < lane) {
      at += above[l];
    }
  }
  at += equal_before - min(equal_before, skipped);
  for (var i = begin; i < end; i++) {
    let s = slot_of(sight, i);
    let order = order_of(scores[start + s]);
    if (order == threshold) {
      equal_before += 1u;
    }
    if (free > 0u && (order > threshold || (order == threshold && equal_before > skipped))) {
      lists[at] = s;
      at += 1u;
    }
  }
  for (var i = lane; i < sinks; i += 64u) {
    lists[out + 1u + i] = slot_of(sight, i);
  }
  for (var i = lane; i < count - recent; i += 64u) {
    lists[out + 1u + sinks + free + i] = slot_of(sight, recent + i);
  }
  if (lane == 0u) {
    lists[out] = fixed + free;
  }
}
