/**
 * PrefixCache: finished pages found again by content.
 *
 * A tree of full pages: a node is the page that holds the K and V of its tokens after its parent's.
 * Tokens are compared one by one, so that no hash collision can serve somebody else's pages. Trees
 * are kept apart by namespace (cache salt and policy).
 */
import type { PageStore } from "./pages.ts";

/** A cached page. Whoever holds a node's page keeps the node. */
export interface CachedPage {
  readonly page: number;
  readonly depth: number;
  readonly parent: CachedPage | undefined;
}

interface Node extends CachedPage {
  readonly parent: Node | undefined;
  readonly namespace: string;
  readonly tokens: Uint32Array;
  readonly hash: number;
  readonly children: Map<number, Node[]>;
  /** When it was last used, in uses of the cache. */
  used: number;
}

/** See file comment. */
export class PrefixCache {
  readonly #store: PageStore;
  readonly #maxPages: number;
  readonly #roots = new Map<string, Map<number, Node[]>>();
  /** Least recently used first. */
  readonly #nodes = new Set<Node>();
  #uses = 0;

  /** @param maxPages most pages the cache may hold; 0 switches it off */
  constructor(store: PageStore, maxPages: number) {
    this.#store = store;
    this.#maxPages = maxPages;
  }

  /** Pages the cache holds, used by others or not. */
  get pages(): number {
    return this.#nodes.size;
  }

  /** The page ids, for checks. */
  *held(): Generator<number> {
    for (const node of this.#nodes) yield node.page;
  }

  /** The longest cached run of full pages within the first `length` tokens, root first. */
  match(namespace: string, tokens: readonly number[], length: number): readonly CachedPage[] {
    const { pageSize } = this.#store;
    const path: Node[] = [];
    let level = this.#roots.get(namespace);
    for (let at = 0; level !== undefined && at + pageSize <= length; at += pageSize) {
      const node = findChild(level, tokens, at, pageSize);
      if (node === undefined) break;
      path.push(node);
      level = node.children;
    }
    this.#touchUp(path.at(-1));
    return path;
  }

  /**
   * Remembers the full page of `tokens[start .. start + pageSize]` below `parent`. If that content is
   * known already, the known page is returned; it may be another one than `page`.
   *
   * @param parent undefined for the first page; its page must be held by the caller
   * @returns undefined if the cache is full of pages in use
   */
  insert(
    namespace: string,
    parent: CachedPage | undefined,
    tokens: readonly number[],
    page: number,
  ): CachedPage | undefined {
    const { pageSize } = this.#store;
    const start = parent === undefined ? 0 : parent.depth * pageSize;
    const above = parent as Node | undefined; // only this class makes them
    let level = above?.children ?? this.#roots.get(namespace);
    const known = level && findChild(level, tokens, start, pageSize);
    if (known !== undefined) return known;
    if (this.#nodes.size >= this.#maxPages && this.evict(1) === 0) return undefined;
    level ??= this.#addRoot(namespace);
    const node: Node = {
      page,
      depth: (above?.depth ?? 0) + 1,
      parent: above,
      namespace,
      tokens: Uint32Array.from({ length: pageSize }, (_, i) => tokens[start + i]!),
      hash: hashOf(tokens, start, pageSize),
      children: new Map(),
      used: ++this.#uses,
    };
    // An eviction may have emptied and dropped the root's map.
    if (above === undefined) level = this.#roots.get(namespace) ?? this.#addRoot(namespace);
    const bucket = level.get(node.hash);
    if (bucket === undefined) level.set(node.hash, [node]);
    else bucket.push(node);
    this.#store.share(page);
    this.#nodes.add(node);
    return node;
  }

  /** Pages that {@link evict} could return now. */
  evictable(): number {
    let count = 0;
    for (const node of this.#nodes) if (!this.#store.isShared(node.page)) count++;
    return count;
  }

  /** Drops up to `count` least recently used pages nobody else holds. @returns how many */
  evict(count: number): number {
    let evicted = 0;
    let visits = this.#nodes.size; // what is touched on the way comes round again
    for (const leaf of this.#nodes) {
      if (evicted >= count || visits-- === 0) break;
      if (leaf.children.size > 0) continue;
      if (this.#store.isShared(leaf.page)) {
        this.#touchUp(leaf);
        continue;
      }
      evicted += this.#removeUp(leaf, count - evicted);
    }
    return evicted;
  }

  /** Forgets everything. */
  clear(): void {
    for (const node of this.#nodes) this.#store.release(node.page);
    this.#nodes.clear();
    this.#roots.clear();
  }

  #addRoot(namespace: string): Map<number, Node[]> {
    const level = new Map<number, Node[]>();
    this.#roots.set(namespace, level);
    return level;
  }

  /** Children come before their parents in the order. */
  #touchUp(leaf: Node | undefined): void {
    const used = ++this.#uses;
    for (let node = leaf; node !== undefined; node = node.parent) {
      node.used = used;
      this.#nodes.delete(node);
      this.#nodes.add(node);
    }
  }

  /** Removes a leaf and what above it became a leaf by that and was not used since. */
  #removeUp(leaf: Node, count: number): number {
    let removed = 0;
    for (let node: Node | undefined = leaf; node !== undefined; node = node.parent) {
      const isLeft = node.children.size === 0 && !this.#store.isShared(node.page);
      if (removed === count || !isLeft || node.used > leaf.used) break;
      this.#remove(node);
      removed++;
    }
    return removed;
  }

  #remove(node: Node): void {
    this.#nodes.delete(node);
    const level = node.parent?.children ?? this.#roots.get(node.namespace)!;
    const rest = level.get(node.hash)!.filter((other) => other !== node);
    if (rest.length > 0) level.set(node.hash, rest);
    else level.delete(node.hash);
    if (level.size === 0 && node.parent === undefined) this.#roots.delete(node.namespace);
    this.#store.release(node.page);
  }
}

function findChild(
  level: ReadonlyMap<number, readonly Node[]>,
  tokens: readonly number[],
  start: number,
  pageSize: number,
): Node | undefined {
  const bucket = level.get(hashOf(tokens, start, pageSize));
  return bucket?.find((node) => node.tokens.every((token, i) => token === tokens[start + i]));
}

function hashOf(tokens: readonly number[], start: number, count: number): number {
  let hash = 0x811c9dc5;
  for (let i = start; i < start + count; i++) {
    hash = Math.imul(hash ^ tokens[i]!, 0x9e3779b1);
    hash ^= hash >>> 15;
  }
  return hash;
}
