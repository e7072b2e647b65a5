/**
 * Asks a server what it can do: its listing says which engine it is, and one short completion per route
 * shows whether log-probabilities, several choices and token ids come back. What cannot be asked is
 * taken from the table of engines.
 */
import type { UpstreamSpec } from "./types.ts";
import { profileOf } from "./profile.ts";
import type { EngineName, Replica, UpstreamHost, UpstreamProfile } from "./types.ts";
import { headersFor, readBounded } from "./http.ts";
import { isFields, parseObject } from "./wire.ts";

/** What a probe found. */
export interface Probe {
  readonly profile: UpstreamProfile;
  /** False if the server did not answer; the profile is then what its engine is known for. */
  readonly answered: boolean;
}

type Fields = Readonly<Record<string, unknown>>;

/** Probes one replica. Never throws: a server that is away is probed again later. */
export async function probeReplica(
  spec: UpstreamSpec,
  replica: Replica,
  host: UpstreamHost,
): Promise<Probe> {
  const ask = (path: string, body?: unknown) => askJson(spec, replica, host, path, body);
  const listing = await ask("/models");
  const listed = entryOf(listing, replica.model);
  const engine = spec.engine === "auto" ? engineOf(listed) : spec.engine;
  const said = listedFacts(listed);
  if (!spec.probe || listing === undefined) {
    const profile = profileOf(engine, said, spec.declared);
    return { profile, answered: listing !== undefined };
  }
  const [chat, completions] = await Promise.all([
    spec.kind === "completions" ? undefined : ask("/chat/completions", chatProbe(replica.model)),
    spec.kind === "chat" ? undefined : ask("/completions", completionProbe(replica.model)),
  ]);
  const seen = {
    ...said,
    ...spec.kind === "completions" ? {} : readChat(chat),
    ...spec.kind === "chat" ? {} : readCompletion(completions),
  };
  return { profile: profileOf(engine, seen, spec.declared), answered: true };
}

function chatProbe(model: string) {
  return {
    model,
    messages: [{ role: "user", content: "Hi" }],
    max_tokens: 1,
    n: 2,
    logprobs: true,
    top_logprobs: 1,
  };
}

function completionProbe(model: string) {
  // Token ids, not text: a server that only takes text refuses them, which is what is asked here.
  return { model, prompt: [1, 2], max_tokens: 1, logprobs: 1, return_token_ids: true };
}

/** A JSON object from a replica; undefined for any other answer, and for none in time. */
export async function askJson(
  { timeouts }: Pick<UpstreamSpec, "timeouts">,
  replica: Replica,
  host: UpstreamHost,
  path: string,
  body?: unknown,
): Promise<Fields | undefined> {
  const control = new AbortController();
  const cancel = host.after(timeouts.connectMs, () => control.abort());
  try {
    const response = await host.fetch(replica.url + path, {
      method: body === undefined ? "GET" : "POST",
      headers: headersFor(replica, true),
      redirect: "manual",
      signal: control.signal,
      ...body === undefined ? {} : { body: JSON.stringify(body) },
    });
    const text = await readBounded(response.body, control.signal);
    return response.status === 200 && text !== undefined ? parseObject(text) : undefined;
  } catch {
    return undefined;
  } finally {
    cancel();
    control.abort(); // ends a body that was not read
  }
}

function entryOf(listing: Fields | undefined, model: string): Fields | undefined {
  const data: readonly unknown[] = Array.isArray(listing?.data) ? listing.data : [];
  const entries = data.filter(isFields);
  return entries.find(({ id }) => id === model) ?? (entries.length === 1 ? entries[0] : undefined);
}

/** By how servers sign their listings. */
function engineOf(entry: Fields | undefined): EngineName {
  if (!entry) return "openai";
  if (typeof entry.served_by === "string" && Array.isArray(entry.capabilities)) return "decant";
  const owners: Readonly<Record<string, EngineName>> = {
    vllm: "vllm",
    sglang: "sglang",
    llamacpp: "llama.cpp",
    library: "ollama",
    "organization_owner": "lmstudio",
  };
  const owner = String(entry.owned_by);
  return Object.hasOwn(owners, owner) ? owners[owner]! : "openai";
}

function listedFacts(entry: Fields | undefined): Partial<UpstreamProfile> {
  const meta = isFields(entry?.meta) ? entry.meta : {};
  const length = [entry?.max_model_len, entry?.context_length, meta.n_ctx, meta.n_ctx_train]
    .find((value) => typeof value === "number" && Number.isInteger(value) && value > 0);
  return typeof length === "number" ? { contextLength: length } : {};
}

function choicesOf(answer: Fields | undefined): readonly Fields[] {
  return Array.isArray(answer?.choices) ? answer.choices.filter(isFields) : [];
}

function readChat(answer: Fields | undefined): Partial<UpstreamProfile> {
  const choices = choicesOf(answer);
  // Refused: it may dislike one of the fields, so nothing beyond plain chat is believed.
  if (choices.length === 0) return { n: false, chatLogprobs: undefined };
  const logprobs = choices[0]!.logprobs;
  const content = isFields(logprobs) ? logprobs.content : undefined;
  const hasLogprobs = Array.isArray(content) && content.length > 0;
  return {
    chat: true,
    n: choices.length === 2,
    ...hasLogprobs ? { chatLogprobs: 20 } : { chatLogprobs: undefined },
  };
}

function readCompletion(answer: Fields | undefined): Partial<UpstreamProfile> {
  const [choice] = choicesOf(answer);
  if (!choice) return { completions: false, tokenIds: false, completionLogprobs: undefined };
  const { logprobs } = choice;
  const hasList = isFields(logprobs) &&
    (Array.isArray(logprobs.token_logprobs) || Array.isArray(logprobs.content));
  const hasIds = Array.isArray(choice.token_ids) ||
    (isFields(logprobs) && Array.isArray(logprobs.content) && isFields(logprobs.content[0]) &&
      typeof logprobs.content[0].id === "number");
  return {
    completions: true,
    tokenIds: hasIds,
    completionLogprobs: hasList ? 20 : undefined,
  };
}
