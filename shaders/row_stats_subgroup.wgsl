// row_stats_subgroup: row_stats where lanes can pass each other values: largest value, its place, the second largest, and sums of exponentials, of parts of a row.
//
//   sum = sum over i of e^d, weighted = sum over i of e^d d, with d = (x[i] - largest) / temperature
//
// Source    entropy and log-sum-exp from them: H = ln sum - weighted / sum, ln Z = largest / temperature + ln sum.
// Shapes    x [rows, stride]; parts [draws, ceil(vocab / 1024), 8]: largest, place, second, sum, weighted, numbers that are none, 0, 0;
//           step_data as runtime/backend/webgpu/draws.ts lays it out, 16 words per draw from word `draws`.
// Types     f32; places and counts as bits.
// Bindings  0 params, 1 x, 2 step_data, 3 parts
// Dispatch  (ceil(vocab / 1024), draws, 1)
// Limits    draws <= 65535.
//           Subgroups of at least 8 lanes in the order of the workgroup, as the probe in subgroups.ts finds out.
// Order     that of row_stats, to the bit: one chain per lane, then lanes in order. Ties: the lowest place.

// Rows by the draw's row number, as they come from the model; else the draw's own row.
override RAW: bool = false;
// Temperature of the draw; else 1.
override TEMPERED: bool = false;

struct Params {
  vocab: u32,
  stride: u32,
  draws: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> step_data: array<u32>;
@group(0) @binding(3) var<storage, read_write> parts: array<f32>;

const LEAST = -3.4e38;
// Of eight lanes each: largest value, its first place, largest value but that one, numbers that are none.
var<workgroup> largest: array<f32, 8>;
var<workgroup> places: array<u32, 8>;
var<workgroup> seconds: array<f32, 8>;
var<workgroup> wrong: array<u32, 8>;
var<workgroup> sums: array<f32, 64>;
var<workgroup> weighted: array<f32, 64>;

// The largest of eight lanes' values, which each of them gets.
fn most_of_eight(v: f32) -> f32 {
  let pairs = max(v, subgroupShuffleXor(v, 1u));
  let fours = max(pairs, subgroupShuffleXor(pairs, 2u));
  return max(fours, subgroupShuffleXor(fours, 4u));
}

fn least_of_eight(v: u32) -> u32 {
  let pairs = min(v, subgroupShuffleXor(v, 1u));
  let fours = min(pairs, subgroupShuffleXor(pairs, 2u));
  return min(fours, subgroupShuffleXor(fours, 4u));
}

fn count_of_eight(v: u32) -> u32 {
  let pairs = v + subgroupShuffleXor(v, 1u);
  let fours = pairs + subgroupShuffleXor(pairs, 2u);
  return fours + subgroupShuffleXor(fours, 4u);
}

// e^v to about one unit in the last place; the built-in may be off by 3 + 2 |v| units.
fn exp_exact(v: f32) -> f32 {
  let t = clamp(v, -87.0, 89.0);
  let n = round(t * 1.44269504);
  let r = fma(n, -1.42860677e-6, fma(n, -0.693145752, t));
  var p = fma(r, 1.98756915e-4, 1.39819995e-3);
  p = fma(p, r, 8.33345186e-3);
  p = fma(p, r, 4.16657962e-2);
  p = fma(p, r, 0.166666657);
  p = fma(p, r, 0.5);
  p = fma(p, r * r, r) + 1.0;
  return select(p * bitcast<f32>(u32(i32(n) + 127) << 23u), 0.0, v < -87.0);
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let draw = params.draws + 16u * group.y;
  let row = select(group.y, step_data[draw], RAW) * params.stride;
  let scale = select(1.0, bitcast<f32>(step_data[draw + 4u]), TEMPERED);
  var most = LEAST;
  var place = 0xffffffffu;
  var second = LEAST;
  var bad = 0u;
  for (var k = 0u; k < 16u; k++) {
    let i = group.x * 1024u + k * 64u + lane;
    if (i < params.vocab) {
      let value = x[row + i];
      let bits = bitcast<u32>(value);
      if ((bits & 0x7f800000u) == 0x7f800000u && bits != 0xff800000u) {
        bad += 1u;
      } else if (value > most) {
        second = most;
        most = value;
        place = i;
      } else {
        second = max(second, value);
      }
    }
  }
  let most8 = most_of_eight(most);
  let bad8 = count_of_eight(bad);
  if ((lane & 7u) == 0u) {
    largest[lane / 8u] = most8;
    wrong[lane / 8u] = bad8;
  }
  workgroupBarrier();
  let top = max(
    max(max(largest[0], largest[1]), max(largest[2], largest[3])),
    max(max(largest[4], largest[5]), max(largest[6], largest[7])),
  );
  let place8 = least_of_eight(select(0xffffffffu, place, most == top));
  if ((lane & 7u) == 0u) {
    places[lane / 8u] = place8;
  }
  var sum = 0.0;
  var tilted = 0.0;
  for (var k = 0u; k < 16u; k++) {
    let i = group.x * 1024u + k * 64u + lane;
    if (i < params.vocab) {
      let d = (x[row + i] - top) * scale;
      if (d > -87.0) {
        let e = exp_exact(d);
        sum += e;
        tilted = fma(e, d, tilted);
      }
    }
  }
  sums[lane] = sum;
  weighted[lane] = tilted;
  workgroupBarrier();
  let best = min(
    min(min(places[0], places[1]), min(places[2], places[3])),
    min(min(places[4], places[5]), min(places[6], places[7])),
  );
  let second8 = most_of_eight(select(most, second, place == best));
  if ((lane & 7u) == 0u) {
    seconds[lane / 8u] = second8;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var runner = LEAST;
    var total = 0.0;
    var all_tilted = 0.0;
    var count = 0u;
    for (var l = 0u; l < 8u; l++) {
      runner = max(runner, seconds[l]);
      count += wrong[l];
    }
    for (var l = 0u; l < 64u; l++) {
      total += sums[l];
      all_tilted += weighted[l];
    }
    let out = (group.y * groups.x + group.x) * 8u;
    parts[out] = top;
    parts[out + 1u] = bitcast<f32>(best);
    parts[out + 2u] = runner;
    parts[out + 3u] = total;
    parts[out + 4u] = all_tilted;
    parts[out + 5u] = bitcast<f32>(count);
    parts[out + 6u] = 0.0;
    parts[out + 7u] = 0.0;
  }
}
