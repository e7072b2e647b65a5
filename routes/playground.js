// The playground's script. Everything from the API is shown as text, never as markup.
"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const strategies = new Map(), policies = new Map();
  let running;

  const headers = () => {
    const key = at("key").value;
    return key ? { Authorization: `Bearer ${key}` } : {};
  };

  const get = async (path) => {
    const response = await fetch(path, { headers: headers() });
    const value = await response.json();
    if (response.status === 401) at("key-field").hidden = false;
    if (!response.ok) throw new Error(value.error.message);
    return value.data;
  };

  const fill = (select, names, chosen) => {
    select.replaceChildren(...names.map((name) => {
      const option = document.createElement("option");
      option.textContent = name;
      option.selected = name === chosen;
      return option;
    }));
  };

  // The parameters and defaults of what is chosen, as the header would give them.
  const showParams = (entry, field) => {
    const parts = Object.entries(entry?.params.properties ?? {}).map(([name, { default: value }]) =>
      value === undefined ? name : `${name}=${value}`
    );
    at(field).placeholder = parts.join(";");
    at(field).value = "";
  };
  const showStrategy = () => showParams(strategies.get(at("strategy").value), "params");
  const showPolicy = () => showParams(policies.get(at("kv").value), "kv-params");

  // Policies that the model can run.
  const showPolicies = () => {
    const model = at("model").value, before = at("kv").value;
    const usable = [...policies.values()].filter(({ models }) => models.includes(model));
    const chosen = usable.find(({ name }) => name === before) ?? usable.find((one) => one.default);
    fill(at("kv"), usable.map(({ name }) => name), chosen?.name);
    showPolicy();
  };

  const examples = {
    ["json_schema"]:
      '{"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}',
    regex: "[0-9]{1,4}",
  };
  const showConstraint = () => {
    const kind = at("kind").value;
    at("constraint-field").hidden = !(kind in examples);
    at("constraint-label").textContent = kind === "regex" ? "Regular expression" : "JSON Schema";
    at("constraint").value = examples[kind] ?? "";
  };

  const load = async () => {
    at("error").textContent = "";
    try {
      fill(at("model"), (await get("/v1/models")).map((model) => model.id));
      const list = await get("/v1/strategies");
      for (const strategy of list) strategies.set(strategy.name, strategy);
      fill(at("strategy"), list.map(({ name }) => name), list.find((s) => s.default)?.name);
      showStrategy();
      for (const policy of await get("/v1/kv-policies")) policies.set(policy.name, policy);
      showPolicies();
    } catch (error) {
      at("error").textContent = error.message;
    }
  };

  const addAnswer = () => {
    const box = document.createElement("output");
    at("answers").append(box);
    return box;
  };

  // The data of each complete event; comments and unfinished events are left for later.
  async function* events(body) {
    let text = "";
    for await (const part of body.pipeThrough(new TextDecoderStream())) {
      text += part;
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        if (block.startsWith("data: ") && block !== "data: [DONE]") {
          yield JSON.parse(block.slice(6));
        }
      }
    }
  }

  const parsed = (text, what) => {
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new Error(`${what} is not JSON: ${error.message}`);
    }
  };

  // As a field of the body: OpenAI's for JSON, vLLM's for patterns.
  const constraint = () => {
    const kind = at("kind").value, text = at("constraint").value;
    if (kind === "json_object") return { response_format: { type: kind } };
    if (kind === "regex") return { structured_outputs: { regex: text } };
    if (kind !== "json_schema") return {};
    const schema = parsed(text, "The schema");
    return {
      response_format: { type: kind, json_schema: { name: "answer", strict: true, schema } },
    };
  };

  const requestBody = () => ({
    model: at("model").value,
    messages: [{ role: "user", content: at("message").value }],
    n: at("n").valueAsNumber,
    max_tokens: at("max-tokens").valueAsNumber,
    temperature: at("temperature").valueAsNumber,
    ...(at("seed").value === "" ? {} : { seed: at("seed").valueAsNumber }),
    ...constraint(),
    stream: true,
    stream_options: { include_usage: true },
  });

  const show = (event, boxes) => {
    if (event.error) throw new Error(event.error.message);
    for (const { index, delta, finish_reason: reason } of event.choices) {
      const box = boxes.get(index) ?? boxes.set(index, addAnswer()).get(index);
      box.textContent += delta.content ?? "";
      if (reason) box.title = `finish_reason: ${reason}`;
    }
    if (event.usage) {
      const { prompt_tokens: prompt, completion_tokens: completion, decoding } = event.usage;
      const { kv_tokens_kept: kept, kv_ratio: ratio } = decoding ?? {};
      at("usage").textContent = `${prompt} prompt tokens, ${completion} emitted, ` +
        `${decoding?.tokens_drawn ?? completion} drawn` +
        (kept === undefined ? "" : `; ${Math.round(kept)} tokens in the KV cache`) +
        (ratio === undefined ? "" : `, ${(100 * ratio).toFixed(0)} % of the full cache's bytes`);
    }
  };

  const send = async () => {
    const params = at("params").value.trim();
    const choice = at("strategy").value + (params ? `;${params}` : "");
    const kvParams = at("kv-params").value.trim();
    const kv = at("kv").value + (kvParams ? `;${kvParams}` : "");
    at("header").textContent = `X-Decoding-Strategy: ${choice}`;
    at("kv-header").textContent = kv ? `X-KV-Policy: ${kv}` : "";
    const response = await fetch("/v1/chat/completions", {
      method: "POST",
      signal: running.signal,
      headers: {
        ...headers(),
        "Content-Type": "application/json",
        "X-Decoding-Strategy": choice,
        // Upstream models have none to choose.
        ...(kv && kv !== "full" ? { "X-KV-Policy": kv } : {}),
      },
      body: JSON.stringify(requestBody()),
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    const boxes = new Map();
    for await (const event of events(response.body)) show(event, boxes);
  };

  at("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    for (const id of ["error", "usage", "kv-header"]) at(id).textContent = "";
    at("answers").replaceChildren();
    running = new AbortController();
    at("send").disabled = true;
    at("stop").disabled = false;
    try {
      await send();
    } catch (error) {
      at("error").textContent = running.signal.aborted ? "Stopped." : error.message;
    }
    at("send").disabled = false;
    at("stop").disabled = true;
  });
  at("stop").addEventListener("click", () => running?.abort());
  at("strategy").addEventListener("change", showStrategy);
  at("model").addEventListener("change", showPolicies);
  at("kv").addEventListener("change", showPolicy);
  at("kind").addEventListener("change", showConstraint);
  at("key").addEventListener("change", load);
  load();
})();
