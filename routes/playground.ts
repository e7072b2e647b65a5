/** `GET /playground`: try strategies, KV policies and constraints in the browser, without a build step or outside assets. */
import { html } from "./html.ts";
import { pageResponse } from "./page.ts";
import script from "./playground.js" with { type: "text" };

const body = html`
  <header>
    <h1>Decant</h1>
    <p>Playground: one prompt, any strategy, streamed.</p>
    <nav><a href="/">Start</a> <a href="/docs">API</a> <a href="/openapi.json">openapi.json</a></nav>
  </header>
  <main>
    <section>
      <h2>Request</h2>
      <form id="form">
        <label>Model <select id="model"></select></label>
        <label>Strategy <select id="strategy"></select></label>
        <label>Answers <input id="n" type="number" min="1" max="16" value="1"></label>
        <label>Most tokens <input id="max-tokens" type="number" min="1" value="96"></label>
        <label>Temperature <input id="temperature" type="number" min="0" max="2" step="0.1" value="1"></label>
        <label>Seed <input id="seed" type="number" placeholder="random"></label>
        <label>KV policy <select id="kv"></select></label>
        <label>The answer must be <select id="kind">
          <option value="">anything</option>
          <option value="json_object">a JSON object</option>
          <option value="json_schema">JSON by a schema</option>
          <option value="regex">text by a pattern</option>
        </select></label>
        <label class="wide">Parameters of the strategy
          <input id="params" autocomplete="off" spellcheck="false"></label>
        <label class="wide">Parameters of the KV policy
          <input id="kv-params" autocomplete="off" spellcheck="false"></label>
        <label class="wide" id="constraint-field" hidden><span id="constraint-label"></span>
          <textarea id="constraint" autocomplete="off" spellcheck="false"></textarea></label>
        <label class="wide">Message <textarea id="message">What is 27 + 58?</textarea></label>
        <label class="wide" id="key-field" hidden>API key
          <input id="key" type="password" autocomplete="off"></label>
        <button id="send">Send</button>
        <button id="stop" type="button" disabled>Stop</button>
      </form>
    </section>
    <section>
      <h2>Answer</h2>
      <div id="answers"></div>
      <p id="error" role="alert"></p>
      <p><code id="header"></code></p>
      <p><code id="kv-header"></code></p>
      <p id="usage"></p>
    </section>
  </main>
`;

/** The page. It holds no data: the script asks the API, with the key the reader types. */
export function playground(): Promise<Response> {
  return pageResponse({ title: "Decant playground", body, script });
}
