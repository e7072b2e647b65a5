/**
 * Trees of a given shape, drawn from a draft model layer by layer, for recursive rejection sampling:
 * children of a node are drawn from its law one after the other, without replacement, and laws are kept.
 * The shape is known before anything is drawn; that is all exactness asks of it.
 *
 * Source: Yang et al. 2024, "Multi-candidate speculative decoding", https://arxiv.org/abs/2401.06706.
 */
import { type SamplingParams, type Session, type TokenId, warpedLogprobs } from "../runtime/mod.ts";
import { type Chance, exponentiate } from "./_chance.ts";
import type { DraftTree } from "./_drafter.ts";
import type { Shape } from "./_tree_shape.ts";

/** How layers are drawn. */
export interface LayerOptions {
  readonly sampling: SamplingParams;
  readonly promptLength: number;
  readonly chance: Chance;
  readonly stopTokens: ReadonlySet<TokenId>;
  /** Whether paths go on past those. */
  readonly ignoreStop: boolean;
}

/** A node whose children are to be drawn. */
interface Open<S> {
  /** Place in the tree; -1 = after the committed tokens. */
  readonly node: number;
  /** At the node. */
  readonly session: S;
  readonly shape: Shape;
}

/**
 * Draws a tree. After each layer but the last `layers` gives the sessions that are open: one for each node
 * with children to come. The root stays where it is.
 */
export function drawLayers<S extends Session<"edit" | "logits">>(
  root: S,
  shape: Shape,
  options: LayerOptions,
): { readonly tree: DraftTree; readonly layers: AsyncIterable<readonly S[]> } {
  const tokens: TokenId[] = [];
  const parents: number[] = [];
  const laws: (Float64Array | undefined)[] = [undefined];
  const draw = ({ node, session, shape }: Open<S>, row: Float32Array) => {
    const law = lawOf(row, session, options);
    laws[node + 1] = law;
    return drawnApart(law, shape.length, options.chance).map((token, rank) => {
      parents.push(node);
      laws.push(undefined);
      return { token, node: tokens.push(token) - 1, shape: shape[rank]! };
    });
  };
  const { ignoreStop, stopTokens } = options;
  async function* layers(): AsyncGenerator<readonly S[], void, void> {
    let layer: readonly Open<S>[] = [{ node: -1, session: root, shape }];
    for (;;) {
      const rows = await Promise.all(layer.map(({ session }) => session.logits()));
      const families = layer.map((open, i) => ({
        session: open.session,
        going: draw(open, rows[i]![0]!).filter(({ token, shape }) =>
          shape.length > 0 && (ignoreStop || !stopTokens.has(token))
        ),
      }));
      if (families.every(({ going }) => going.length === 0)) return;
      layer = opened(root, families);
      yield layer.map(({ session }) => session);
    }
  }
  return { tree: { tokens, parents, laws }, layers: layers() };
}

/** Sessions at the nodes that go on; those of nodes whose children do not are closed. */
function opened<S extends Session<"edit" | "logits">>(
  root: S,
  families: readonly {
    readonly session: S;
    readonly going: readonly (Omit<Open<S>, "session"> & { readonly token: TokenId })[];
  }[],
): readonly Open<S>[] {
  for (const { session, going } of families) {
    if (going.length === 0 && session !== root) session[Symbol.dispose]();
  }
  return families.flatMap(({ session, going }) => {
    // The last one takes over its parent's session: no more are open than nodes go on.
    const isOver = (i: number) => session !== root && i === going.length - 1;
    const sessions = going.map((_, i) => isOver(i) ? session : session.fork());
    return going.map(({ token, node, shape }, i) => {
      sessions[i]!.append([token]);
      return { node, session: sessions[i]!, shape };
    });
  });
}

/** At most `count` different tokens, each drawn from what is left of the law. */
function drawnApart(law: Float64Array, count: number, chance: Chance): readonly TokenId[] {
  const rest = law.slice();
  const tokens: TokenId[] = [];
  while (tokens.length < count && rest.some((mass) => mass > 0)) {
    const token = chance.draw(rest);
    tokens.push(token);
    rest[token] = 0;
  }
  return tokens;
}

function lawOf(
  row: Float32Array,
  session: Session<"edit">,
  { sampling, promptLength }: LayerOptions,
): Float64Array {
  return exponentiate(warpedLogprobs(row, {
    sampling,
    promptTokens: session.tokens.slice(0, promptLength),
    completionTokens: session.tokens.slice(promptLength),
  }));
}
