/**
 * Trains what a calibration learns: a network over an answer's log-probabilities, and a router over the
 * prompt. Both estimate the gain, the large answer's quality less the small one's, by least squares.
 *
 * Source: Adam, Kingma & Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 1.
 */
import { type TaskRng, taskRng } from "../models/recipe/rng.ts";
import {
  featureCount,
  featuresOf,
  forward,
  type Network,
  promptFeatures,
  type Router,
  routerBuckets,
} from "../strategies/mod.ts";
import { areaUnder, deferralCurve } from "./curve.ts";

/** A prompt both models have answered. */
export interface Answered {
  readonly prompt: string;
  /** Natural logs, one per token of the small model's answer; at least one. */
  readonly logprobs: readonly number[];
  readonly small: number;
  readonly large: number;
}

const hidden = 32;
const epochs = 120;
const batch = 16;
const rate = 3e-3;
/** Share of the records that decides when to stop. */
const heldOut = 0.2;

/** A network fitted to some records; stops where the held-out area was best. */
export function trainNetwork(records: readonly Answered[], seed: string): Network {
  const rng = taskRng(`network ${seed}`);
  const order = rng.sample(records, records.length);
  const cut = Math.floor(order.length * heldOut);
  const [watched, fitted] = [order.slice(0, cut), order.slice(cut)];
  const examples = fitted.map((record) => ({
    features: featuresOf(record.logprobs),
    gain: record.large - record.small,
  }));
  const scale = standardise(examples.map(({ features }) => features));
  const inputs = examples.map(({ features }) =>
    features.map((value, i) => (value - scale.mean[i]!) / scale.deviation[i]!)
  );
  const net = createNet([featureCount, hidden, hidden, 1], rng);
  const areaOf = (network: Network) =>
    areaUnder(deferralCurve(watched.map((record) => ({
      ...record,
      score: -forward(network, featuresOf(record.logprobs)),
    }))));
  let best = { network: net.freeze(scale), area: -Infinity };
  for (let epoch = 0; epoch < epochs; epoch++) {
    const shuffled = rng.sample(inputs.keys().toArray(), inputs.length);
    for (let from = 0; from < shuffled.length; from += batch) {
      const chosen = shuffled.slice(from, from + batch);
      net.step(chosen.map((i) => [inputs[i]!, examples[i]!.gain]));
    }
    const network = net.freeze(scale);
    const area = watched.length > 0 ? areaOf(network) : epoch;
    if (area > best.area) best = { network, area };
  }
  return best.network;
}

function standardise(rows: readonly (readonly number[])[]) {
  const mean = Array.from(
    { length: featureCount },
    (_, i) => rows.reduce((sum, row) => sum + row[i]!, 0) / rows.length,
  );
  const deviation = mean.map((m, i) => {
    const spread = Math.sqrt(rows.reduce((sum, row) => sum + (row[i]! - m) ** 2, 0) / rows.length);
    return spread > 1e-9 ? spread : 1; // a feature that never changes
  });
  return { mean, deviation };
}

interface Layer {
  readonly weights: Float64Array[];
  readonly bias: Float64Array;
}

/** A rectifier network with Adam. */
function createNet(sizes: readonly number[], rng: TaskRng) {
  const uniform = () => rng.int(1 << 24) / (1 << 24) * 2 - 1;
  const layers = sizes.slice(1).map((outputs, l): Layer => {
    const inputs = sizes[l]!;
    const bound = Math.sqrt(6 / inputs); // He et al. 2015
    return {
      weights: Array.from(
        { length: outputs },
        () => Float64Array.from({ length: inputs }, () => uniform() * bound),
      ),
      bias: new Float64Array(outputs),
    };
  });
  const rows = () => layers.flatMap(({ weights, bias }) => [...weights, bias]);
  const adam = createAdam(rows(), rate);

  function backward(input: readonly number[], target: number, gradient: Layer[]): void {
    const values: (readonly number[] | Float64Array)[] = [input];
    for (const [l, { weights, bias }] of layers.entries()) {
      const before = values[l]!;
      values.push(Float64Array.from(weights, (row, out) => {
        let sum = bias[out]!;
        for (let i = 0; i < row.length; i++) sum += row[i]! * before[i]!;
        return l === layers.length - 1 ? sum : Math.max(0, sum);
      }));
    }
    let delta = Float64Array.of(values.at(-1)![0]! - target);
    for (let l = layers.length - 1; l >= 0; l--) {
      const before = values[l]!;
      const next = new Float64Array(before.length);
      const { weights } = layers[l]!;
      for (let out = 0; out < weights.length; out++) {
        const d = delta[out]!;
        if (d === 0) continue;
        gradient[l]!.bias[out]! += d;
        for (let i = 0; i < before.length; i++) {
          gradient[l]!.weights[out]![i]! += d * before[i]!;
          next[i]! += d * weights[out]![i]!;
        }
      }
      if (l > 0) { for (let i = 0; i < next.length; i++) if (before[i]! <= 0) next[i] = 0; }
      delta = next;
    }
  }

  return {
    step(examples: readonly (readonly [readonly number[], number])[]): void {
      const gradient = layers.map(({ weights, bias }) => ({
        weights: weights.map((row) => new Float64Array(row.length)),
        bias: new Float64Array(bias.length),
      }));
      for (const [input, target] of examples) backward(input, target, gradient);
      adam(gradient.flatMap(({ weights, bias }) => [...weights, bias]), examples.length);
    },
    freeze: (scale: Pick<Network, "mean" | "deviation">): Network => ({
      ...scale,
      layers: layers.map(({ weights, bias }) => ({
        weights: weights.map((row) => [...row].map(short)),
        bias: [...bias].map(short),
      })),
    }),
  };
}

/** Six digits are plenty, and files stay readable. */
function short(value: number): number {
  return Number(value.toPrecision(6));
}

function createAdam(parameters: readonly Float64Array[], rate: number) {
  const first = parameters.map((row) => new Float64Array(row.length));
  const second = parameters.map((row) => new Float64Array(row.length));
  let time = 0;
  return (gradients: readonly Float64Array[], count: number) => {
    time++;
    const scale = rate * Math.sqrt(1 - 0.999 ** time) / (1 - 0.9 ** time);
    parameters.forEach((row, r) => {
      const [m, v, gradient] = [first[r]!, second[r]!, gradients[r]!];
      for (let i = 0; i < row.length; i++) {
        const g = gradient[i]! / count;
        m[i] = 0.9 * m[i]! + 0.1 * g;
        v[i] = 0.999 * v[i]! + 0.001 * g * g;
        row[i]! -= scale * m[i]! / (Math.sqrt(v[i]!) + 1e-8);
      }
    });
  };
}

/** A router fitted to some records, with a little decay of weights. */
export function trainRouter(records: readonly Answered[], seed: string): Router {
  const rng = taskRng(`router ${seed}`);
  const examples = records.map(({ prompt, small, large }) => ({
    features: promptFeatures(prompt),
    gain: large - small,
  }));
  const weights = new Float64Array(routerBuckets);
  const bias = new Float64Array(1);
  const adam = createAdam([weights, bias], 1e-2);
  for (let epoch = 0; epoch < 60; epoch++) {
    const order = rng.sample(examples, examples.length);
    for (let from = 0; from < order.length; from += batch) {
      const chosen = order.slice(from, from + batch);
      const gradient = Float64Array.from(weights, (w) => 1e-3 * w * chosen.length);
      let shift = 0;
      for (const { features, gain } of chosen) {
        let sum = bias[0]!;
        for (const [bucket, value] of features) sum += weights[bucket]! * value;
        const error = sum - gain;
        shift += error;
        for (const [bucket, value] of features) gradient[bucket]! += error * value;
      }
      adam([gradient, Float64Array.of(shift)], chosen.length);
    }
  }
  return { weights: [...weights].map(short), bias: short(bias[0]!) };
}
