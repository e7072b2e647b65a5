/** Style of the pages. Inlined, and allowed by its hash in the page's security policy. */
export const stylesheet = `
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #8b1e3f; }
@media (prefers-color-scheme: dark) { :root { --accent: #e88aa5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem; line-height: 1.5;
  font-family: system-ui, sans-serif; }
header { border-bottom: 3px solid var(--accent); padding-bottom: 1rem; }
h1 { margin: 0; font-size: 2.25rem; letter-spacing: -0.02em; color: var(--accent); }
header p { margin: 0.25rem 0 1rem; font-size: 1.1rem; }
h2 { margin: 2rem 0 0.5rem; font-size: 1.25rem; }
nav a { margin-right: 1rem; }
a { color: var(--accent); }
section { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: 0.4rem 0.75rem 0.4rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; opacity: 0.7; font-size: 0.85rem; }
td:first-child { white-space: nowrap; }
td span { border: 1px solid var(--accent); border-radius: 1rem; padding: 0 0.5rem;
  color: var(--accent); font-size: 0.8rem; }
code { font-family: ui-monospace, monospace; font-size: 0.9em; }
pre { margin: 0; padding: 1rem; overflow-x: auto; background: var(--soft);
  border: 1px solid var(--line); border-radius: 0.5rem; }
form { display: grid; gap: 0.75rem; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); }
label { display: grid; gap: 0.2rem; font-size: 0.85rem; min-width: 0; }
label.wide { grid-column: 1 / -1; }
input, select, textarea, button { min-width: 0; font: inherit; color: inherit; padding: 0.4rem 0.5rem;
  background: var(--soft); border: 1px solid var(--line); border-radius: 0.35rem; }
textarea { min-height: 5rem; resize: vertical; }
select option { color: CanvasText; background: Canvas; }
button { cursor: pointer; border-color: var(--accent); color: var(--accent); font-weight: 600; }
button:disabled { opacity: 0.4; cursor: default; }
output { display: block; margin-bottom: 0.5rem; white-space: pre-wrap; overflow-wrap: anywhere; min-height: 4rem;
  padding: 1rem; background: var(--soft); border: 1px solid var(--line); border-radius: 0.5rem; }
[hidden] { display: none !important; }
#error { color: #c62828; }
footer { margin-top: 3rem; opacity: 0.6; font-size: 0.85rem; }
`;
