/** HTML pages: one shell, a strict security policy, nothing loaded from outside. */
import { Html, html } from "./html.ts";
import { stylesheet } from "./page_style.ts";

/** What a page shows. */
export interface Page {
  readonly title: string;
  readonly body: Html;
  /** Source of the page's own script, allowed by its hash; may call this origin only. */
  readonly script?: string;
}

/** The page as a response. Nothing may load or run but our own style and script. */
export async function pageResponse({ title, body, script }: Page): Promise<Response> {
  const page = html`
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>${title}</title>
        <style>${new Html(stylesheet)}</style>
      </head>
      <body>
        ${body}
        ${script === undefined ? "" : html`
          <script>${new Html(script)}</script>
        `}
      </body>
    </html>
  `;
  return new Response(page.text.trimStart(), {
    headers: {
      "content-type": "text/html; charset=utf-8",
      "content-security-policy": await contentSecurityPolicy(script),
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
      "cache-control": "no-store",
    },
  });
}

async function contentSecurityPolicy(script: string | undefined): Promise<string> {
  const scripts = script === undefined ? [] : [
    `script-src ${await hashSource(script)}`,
    "connect-src 'self'",
  ];
  return [
    "default-src 'none'",
    `style-src ${await hashSource(stylesheet)}`,
    ...scripts,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}

async function hashSource(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return `'sha256-${new Uint8Array(digest).toBase64()}'`;
}
