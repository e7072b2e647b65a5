/** `GET /`: what is served here, as one page without scripts or outside assets. */
import { acceptedKeys } from "./auth.ts";
import { describeStrategy, listStrategies } from "../strategies/mod.ts";
import { type Html, html } from "./html.ts";
import { operations } from "./openapi.ts";
import { pageResponse } from "./page.ts";
import type { AppContext, Services } from "./services.ts";

/** The start page. */
export async function startPage(c: AppContext, { deps }: Services): Promise<Response> {
  const base = new URL(c.req.url).origin;
  const isOpen = acceptedKeys(deps).length === 0;
  const body = html`
    <header>
      <h1>Decant</h1>
      <p>One OpenAI-compatible endpoint; every request chooses how the model decodes.</p>
      <nav><a href="/playground">Playground</a> <a href="#models">Models</a>
    <a href="#strategies">Strategies</a> <a href="#api">API</a>
    <a href="/openapi.json">openapi.json</a></nav>
    </header>
    <main>
      ${example(base, isOpen ? deps.catalog.list()[0]?.id : undefined, isOpen)}
      ${isOpen ? models(deps) : lockedModels}
      ${strategies(deps.defaults.strategy)}
      ${api}
    </main>
    <footer>Decant ${deps.version ?? ""} · Apache-2.0</footer>
  `;
  return await pageResponse({ title: "Decant", body });
}

/** `GET /docs`: the page's list of routes. */
export function docs(): Response {
  return new Response(null, { status: 302, headers: { location: "/#api" } });
}

function example(base: string, model: string | undefined, isOpen: boolean): Html {
  const body = JSON.stringify({
    model: model ?? "MODEL",
    messages: [{ role: "user", content: "What is 27 + 58?" }],
  });
  const key = isOpen ? "" : `  -H 'Authorization: Bearer YOUR_KEY' \\\n`;
  const command = `curl ${base}/v1/chat/completions \\\n${key}` +
    `  -H 'Content-Type: application/json' \\\n` +
    `  -H 'X-Decoding-Strategy: beam;num_beams=4' \\\n` +
    `  -d '${body.replaceAll("'", "'\\''")}'`;
  return html`
    <section>
      <h2>Try it</h2>
      <pre><code>${command}</code></pre>
    </section>
  `;
}

function models({ catalog, aliases }: Services["deps"]): Html {
  const rows = catalog.list().map((info) =>
    html`
      <tr>
        <td><code>${info.id}</code></td>
        <td>${info.parameters === undefined ? "" : millions(info.parameters)}</td>
        <td>${info.contextLength}</td>
        <td>${info.servedBy}</td>
      </tr>
    `
  );
  const names = [...aliases].map(([name, { model, strategy }]) =>
    html`
      <tr>
        <td><code>${name}</code></td>
        <td colspan="3">${model}${strategy === undefined ? "" : `, decoded by ${strategy}`}</td>
      </tr>
    `
  );
  return html`
    <section id="models">
      <h2>Models</h2>
      <table>
        <thead>
          <tr>
            <th>Id</th>
            <th>Parameters</th>
            <th>Context</th>
            <th>Runs on</th>
          </tr>
        </thead>
        <tbody>${[...rows, ...names]}</tbody>
      </table>
    </section>
  `;
}

const lockedModels = html`
  <section id="models">
    <h2>Models</h2>
    <p>Listed by <code>GET /v1/models</code>, which needs an API key here.</p>
  </section>
`;

function millions(parameters: number): string {
  return `${(parameters / 1e6).toPrecision(2)} M`;
}

function strategies(byDefault: string): Html {
  const rows = listStrategies().map(describeStrategy).map((strategy) =>
    html`
      <tr>
        <td><code>${strategy.name}</code>${strategy.name === byDefault
          ? html`
            <span>default</span>
          `
          : ""}</td>
        <td>${strategy.summary}</td>
        <td>${parameterNames(strategy.params)}</td>
      </tr>
    `
  );
  return html`
    <section id="strategies">
      <h2>Strategies</h2>
      <p>Chosen by the header <code>X-Decoding-Strategy</code>, by <code>decoding</code> in the body, or by
    a model alias.</p>
      <table>
        <thead>
          <tr>
            <th>Name</th>
            <th>What it does</th>
            <th>Parameters</th>
          </tr>
        </thead>
        <tbody>${rows}</tbody>
      </table>
    </section>
  `;
}

function parameterNames(schema: Readonly<Record<string, unknown>>): string {
  return Object.keys(Object(schema["properties"])).join(", ");
}

const api = html`
  <section id="api">
    <h2>API</h2>
    <table>
      <tbody>${operations.map(({ method, path, summary }) =>
        html`
          <tr>
            <td>${method.toUpperCase()}</td>
            <td><code>${path}</code></td>
            <td>${summary}</td>
          </tr>
        `
      )}</tbody>
    </table>
  </section>
`;
