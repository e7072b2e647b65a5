// The playground's script. Everything from the API is shown as text, never as markup.
"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const strategies = new Map();
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

  // A strategy's parameters and defaults, as the header would give them.
  const showParams = () => {
    const properties = strategies.get(at("strategy").value)?.params.properties ?? {};
    const parts = Object.entries(properties).map(([name, { default: value }]) =>
      value === undefined ? name : `${name}=${value}`
    );
    at("params").placeholder = parts.join(";");
    at("params").value = "";
  };

  const load = async () => {
    at("error").textContent = "";
    try {
      fill(at("model"), (await get("/v1/models")).map((model) => model.id));
      const list = await get("/v1/strategies");
      for (const strategy of list) strategies.set(strategy.name, strategy);
      fill(at("strategy"), list.map(({ name }) => name), list.find((s) => s.default)?.name);
      showParams();
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

  const requestBody = () => ({
    model: at("model").value,
    messages: [{ role: "user", content: at("message").value }],
    n: at("n").valueAsNumber,
    max_tokens: at("max-tokens").valueAsNumber,
    temperature: at("temperature").valueAsNumber,
    ...(at("seed").value === "" ? {} : { seed: at("seed").valueAsNumber }),
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
      at("usage").textContent = `${prompt} prompt tokens, ${completion} emitted, ` +
        `${decoding?.tokens_drawn ?? completion} drawn`;
    }
  };

  const send = async () => {
    const params = at("params").value.trim();
    const choice = at("strategy").value + (params ? `;${params}` : "");
    at("header").textContent = `X-Decoding-Strategy: ${choice}`;
    const response = await fetch("/v1/chat/completions", {
      method: "POST",
      signal: running.signal,
      headers: {
        ...headers(),
        "Content-Type": "application/json",
        "X-Decoding-Strategy": choice,
      },
      body: JSON.stringify(requestBody()),
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    const boxes = new Map();
    for await (const event of events(response.body)) show(event, boxes);
  };

  at("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    for (const id of ["error", "usage"]) at(id).textContent = "";
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
  at("strategy").addEventListener("change", showParams);
  at("key").addEventListener("change", load);
  load();
})();
