// perturb_logits: adds Gumbel noise to the tempered logits that are left in the draw.
//
//   y[d, i] = (x[d, i] - largest) / temperature + g,  g = -ln(-ln u),  u = (word + 1/2) / 2^32;  -3.4e38 below the cut
//
// Source    Gumbel-max: Maddison et al. 2014, https://arxiv.org/abs/1411.0030; the largest k of a row are a sample without replacement:
//           Kool et al. 2019, https://arxiv.org/abs/1903.06059. Words: Philox4x32-10, Salmon et al. 2011, as runtime/rng.ts.
// Shapes    x, y [draws, vocab]; stats [draws, 24] with those of the tempered row from word 8; cuts [draws, 4] of sampling_cut;
//           flags [draws]: set where rounding of min-p might decide;
//           step_data as runtime/backend/webgpu/draws.ts lays it out, 16 words per draw from word `draws`.
// Types     f32; noise to 2e-6.
// Bindings  0 params, 1 x, 2 stats, 3 cuts, 4 step_data, 5 y, 6 flags
// Dispatch  (ceil(vocab / 256), draws, 1): four tokens of one block of words per lane
// Limits    draws <= 65535.
// Order     noise depends on seed, position and token alone.

struct Params {
  vocab: u32,
  draws: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> stats: array<f32>;
@group(0) @binding(3) var<storage, read> cuts: array<f32>;
@group(0) @binding(4) var<storage, read> step_data: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read_write> flags: array<atomic<u32>>;

// High 32 bits of a product.
fn mul_high(a: u32, b: u32) -> u32 {
  let a_low = a & 0xffffu;
  let a_high = a >> 16u;
  let b_low = b & 0xffffu;
  let b_high = b >> 16u;
  let mid = a_high * b_low + ((a_low * b_low) >> 16u);
  let cross = a_low * b_high + (mid & 0xffffu);
  return a_high * b_high + (mid >> 16u) + (cross >> 16u);
}

fn philox(counter: vec4u, key: vec2u) -> vec4u {
  var c = counter;
  var k = key;
  for (var round = 0u; round < 10u; round++) {
    let high0 = mul_high(0xd2511f53u, c.x);
    let low0 = 0xd2511f53u * c.x;
    let high1 = mul_high(0xcd9e8d57u, c.z);
    let low1 = 0xcd9e8d57u * c.z;
    c = vec4u(high1 ^ c.y ^ k.x, low1, high0 ^ c.w ^ k.y, low0);
    k += vec2u(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}

// ln v to about two units in the last place, for normal v > 0.
fn ln(v: f32) -> f32 {
  let bits = bitcast<u32>(v);
  // v = m 2^e with m in [sqrt(1/2), sqrt(2)).
  let shifted = i32(bits) - 0x3f3504f3;
  let e = shifted >> 23u;
  let m = bitcast<f32>(u32(shifted & 0x7fffff) + 0x3f3504f3u);
  let f = m - 1.0;
  let s = f / (2.0 + f);
  let z = s * s;
  // ln((1 + s) / (1 - s)) = 2 s + 2/3 s^3 + ...
  var r = fma(z, 0.2222222, 0.2857143);
  r = fma(z, r, 0.4);
  r = fma(z, r, 0.6666667);
  let ln_m = fma(s * z, r, 2.0 * s);
  return fma(f32(e), 0.693147182, ln_m);
}

// -ln(-ln u) with u = (word + 1/2) / 2^32.
fn gumbel(word: u32) -> f32 {
  var surprise: f32;
  if (word >= 0xe0000000u) {
    // Near 1, where u itself would be rounded: -ln(1 - w) = w + w^2/2 + ...
    let w = (f32(0xffffffffu - word) + 0.5) * 2.3283064365386963e-10;
    var tail = fma(w, 0.11111111, 0.125);
    tail = fma(w, tail, 0.14285715);
    tail = fma(w, tail, 0.16666667);
    tail = fma(w, tail, 0.2);
    tail = fma(w, tail, 0.25);
    tail = fma(w, tail, 0.33333334);
    tail = fma(w, tail, 0.5);
    surprise = fma(w * w, tail, w);
  } else {
    surprise = -ln((f32(word) + 0.5) * 2.3283064365386963e-10);
  }
  return -ln(surprise);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let block = group.x * 64u + lane;
  let draw = params.draws + 16u * group.y;
  let key = vec2u(step_data[draw + 1u], step_data[draw + 2u]);
  let position = step_data[draw + 3u];
  let scale = bitcast<f32>(step_data[draw + 4u]);
  let largest = stats[group.y * 24u + 8u];
  let cut = max(cuts[group.y * 4u], cuts[group.y * 4u + 1u]);
  let least = cuts[group.y * 4u + 1u];
  if (block * 4u >= params.vocab) {
    return;
  }
  let words = philox(vec4u(block, position, 3u, 0u), key); // 3: the stream of token noise
  for (var c = 0u; c < 4u; c++) {
    let i = block * 4u + c;
    if (i < params.vocab) {
      let at = group.y * params.vocab + i;
      let value = x[at];
      var out = -3.4e38;
      if (value >= cut) {
        out = fma(value - largest, scale, gumbel(words[c]));
      }
      y[at] = out;
      if (least > -3.2e38 && abs(value - least) < 1e-5 * (1.0 + abs(least))) {
        atomicStore(&flags[group.y], 1u);
      }
    }
  }
}
