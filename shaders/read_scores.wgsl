// read_scores: scores of a row's slots for a token, by which rules choose what the token reads.
//
//   oracle   max over query heads of the kv head of q . k[s]
//   bounds   the same of sum over d of max(q_d min_d, q_d max_d), with the minima and maxima of the keys of the slot's page
//   adapter  the same of q . record[s], with an adapter's queries and records
//
// Source    runtime/backend/cpu/read_scores.ts defines the three; bounds: Tang et al. 2024, https://arxiv.org/abs/2406.10774, section 3.
// Shapes    q [tokens, heads * width] (head_dim, or an adapter's width); keys: words of the pool, or the record [units, page_size, width];
//           encoded: the record of slots in another format, or [units, 2, padded] of page_bounds; scores [ruled tokens, kv_heads, space], by slot; step_data as
//           runtime/backend/webgpu/row_table.ts and read_table.ts lay it out.
// Types     f32; keys f32, int8, int4 or kivi4, which are decoded to f32.
// Bindings  0 params, 1 q, 2 keys, 3 encoded, 4 step_data, 5 scores
// Dispatch  (ceil(slots / 64), kv_heads, ruled tokens), one lane per slot; of bounds one lane per page
// Limits    ruled tokens <= 65535.
// Order     four chains over quads of dimensions; an adapter's one chain.

// 0 oracle, 1 bounds, 2 adapter
override SCORE: u32 = 0;

struct Params {
  heads: u32,
  kv_heads: u32,
  head_dim: u32,
  quads: u32, // ceil(head_dim / 4)
  page_size: u32,
  slots: u32, // of a sequence: slots per page times pages
  layer: u32,
  home: u32, // number of the layer within this buffer
  ruled: u32, // word of step_data where the ruled tokens are
  first: u32, // number of the first list of `scores`
  space: u32, // slots there is room for
  width: u32, // of an adapter's records
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> keys: array<u32>;
@group(0) @binding(3) var<storage, read> encoded: array<u32>;
@group(0) @binding(4) var<storage, read> step_data: array<u32>;
@group(0) @binding(5) var<storage, read_write> scores: array<f32>;

// Numbers 4i to 4i + 3 of a key. `page`: first word of the page, `slot`: place in it, `form`: 0 f32, 1 int8, 2 int4, 3 kivi4.
fn key_quad(page: u32, slot: u32, form: u32, i: u32) -> vec4f {
  let dim = params.head_dim;
  if (form == 0u) {
    let at = page + (slot * params.quads + i) * 4u;
    return bitcast<vec4f>(vec4u(keys[at], keys[at + 1u], keys[at + 2u], keys[at + 3u]));
  }
  if (form == 1u) {
    let at = page + slot * (1u + params.quads);
    return vec4f(unpack4xI8(keys[at + 1u + i])) * bitcast<f32>(keys[at]);
  }
  let words = (dim + 7u) / 8u;
  if (form == 2u) {
    let groups = (dim + 31u) / 32u;
    let at = page + slot * (groups + words);
    let scale = unpack2x16float(keys[at + i / 8u]);
    let bits = (keys[at + groups + i / 2u] >> (16u * (i & 1u))) & 0xffffu;
    let n = vec4f(vec4u(bits & 15u, (bits >> 4u) & 15u, (bits >> 8u) & 15u, bits >> 12u));
    return fma(vec4f(select(scale.x, 1.0, scale.x == 0.0)), n, vec4f(scale.y));
  }
  let at = page + slot / 32u * (dim + 32u * words);
  let bits = (keys[at + dim + (slot & 31u) * words + i / 2u] >> (16u * (i & 1u))) & 0xffffu;
  var out = vec4f();
  for (var c = 0u; c < min(4u, dim - 4u * i); c++) {
    let scale = unpack2x16float(keys[at + 4u * i + c]);
    out[c] = fma(select(scale.x, 1.0, scale.x == 0.0), f32((bits >> (4u * c)) & 15u), scale.y);
  }
  return out;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let kv_head = group.y;
  let token = step_data[params.ruled + 2u * group.z];
  let view = step_data[params.ruled + 2u * group.z + 1u];
  let row = step_data[view];
  let form = step_data[view + 1u];
  let per_page = step_data[view + 2u];
  let grain = step_data[row + 2u];
  let table_group = select(select(params.layer * params.kv_heads + kv_head, params.layer, grain == 1u), 0u, grain == 0u);
  let unit_base = select(select(0u, kv_head, grain == 1u), params.home * params.kv_heads + kv_head, grain == 0u) * (params.slots / params.page_size);
  let entry = step_data[row + 3u] + 6u * table_group;
  let pages = step_data[entry + 1u];
  let older = step_data[view + 3u] + 5u * table_group;
  let coded = step_data[older];
  let coded_pages = step_data[older + 1u];
  let own = token - step_data[row];
  // Slots up to the token itself.
  let last = coded + step_data[entry] - step_data[row + 1u] + own + 1u;
  let list = step_data[view + 5u] + own - step_data[view + 4u] - params.first;
  let out = (list * params.kv_heads + kv_head) * params.space;
  let page_words = params.page_size * params.quads * 4u;
  let per_group = params.heads / params.kv_heads;

  // The slots of this lane: one, or the run of a page; those in another format run as long as a page.
  let lane_item = group.x * 64u + lane;
  var begin = lane_item;
  var to = lane_item + 1u;
  if (SCORE == 1u) {
    let coded_runs = (coded + params.page_size - 1u) / params.page_size;
    if (lane_item < coded_runs) {
      begin = lane_item * params.page_size;
      to = min(coded, begin + params.page_size);
    } else {
      begin = coded + (lane_item - coded_runs) * params.page_size;
      to = min(last, begin + params.page_size);
    }
  }
  if (begin >= last) {
    return;
  }
  let is_coded = begin < coded;
  let plain = begin - select(coded, 0u, is_coded);
  let size = select(params.page_size, per_page, is_coded);
  let table = select(pages, coded_pages, is_coded);
  let unit = unit_base + step_data[table + plain / size];
  // Of full pages before the row bounds are known; others are looked through here.
  let is_known = SCORE == 1u && !is_coded && to - begin == params.page_size && to < last - own;
  var best = -3.4e38;
  for (var g = 0u; g < per_group; g++) {
    var score = 0.0;
    if (SCORE == 2u) {
      let query = (token * params.heads + kv_head * per_group + g) * params.width;
      let record = (unit * size + plain % size) * params.width;
      for (var d = 0u; d < params.width; d++) {
        score = fma(q[query + d], bitcast<f32>(select(keys[record + d], encoded[record + d], is_coded)), score);
      }
    } else {
      let query = (token * params.heads + kv_head * per_group + g) * params.head_dim;
      let key_form = select(0u, form, is_coded);
      var dot4 = vec4f();
      for (var i = 0u; i < params.quads; i++) {
        var q4 = vec4f();
        for (var c = 0u; c < min(4u, params.head_dim - 4u * i); c++) {
          q4[c] = q[query + 4u * i + c];
        }
        if (is_known) {
          let at = (2u * unit * params.quads + i) * 4u;
          let above = at + params.quads * 4u;
          let least = bitcast<vec4f>(vec4u(encoded[at], encoded[at + 1u], encoded[at + 2u], encoded[at + 3u]));
          let most = bitcast<vec4f>(vec4u(encoded[above], encoded[above + 1u], encoded[above + 2u], encoded[above + 3u]));
          dot4 += max(q4 * least, q4 * most);
          continue;
        }
        let key = key_quad(unit * page_words, plain % size, key_form, i);
        if (SCORE == 0u) {
          dot4 = fma(q4, key, dot4);
        } else {
          var least = key;
          var most = key;
          for (var s = begin + 1u; s < to; s++) {
            let place = s - select(coded, 0u, is_coded);
            let other = key_quad((unit_base + step_data[table + place / size]) * page_words, place % size, key_form, i);
            least = min(least, other);
            most = max(most, other);
          }
          dot4 += max(q4 * least, q4 * most);
        }
      }
      score = (dot4.x + dot4.y) + (dot4.z + dot4.w);
    }
    best = max(best, score);
  }
  for (var s = begin; s < to; s++) {
    scores[out + s] = best;
  }
}
