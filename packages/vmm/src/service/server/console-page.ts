import { createHash } from 'node:crypto';
import type { PlainResponse } from '@dstack-cloud/prpc';
import { CONSOLE_SCRIPT } from './console-script.ts';

const STYLE = `:root{color-scheme:light dark;--line:#d0d5dd;--soft:#f4f5f7;--bad:#b3261e;--good:#1b6e3c;--link:#1a56b0}
@media(prefers-color-scheme:dark){:root{--line:#3b4048;--soft:#23272e;--bad:#ff8a80;--good:#7bd88f;--link:#8ab4f8}}
body{font:15px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:76rem;padding:0 1rem}
h1{font-size:1.4rem;margin:0 0 1rem}a,.link{color:var(--link)}
.bar{display:flex;flex-wrap:wrap;gap:.5rem;align-items:center}.bar input{flex:1 1 14rem}
#list{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.45rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}th{font-size:.85em}
button{padding:.25rem .7rem;font:inherit;font-size:.9em;cursor:pointer}button:disabled{cursor:default}
.link{border:0;background:none;text-decoration:underline;font:inherit;padding:0}
.details{background:var(--soft)}dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.4rem 0}
dt{font-weight:600}dd{margin:0;word-break:break-all}.copy{font-size:.75em}
.log{max-height:24rem;overflow:auto;border:1px solid var(--line);padding:.6rem;white-space:pre-wrap;word-break:break-all;font-size:.85em}
.log:empty,#problem:empty{display:none}#message{min-height:1.5em}#empty{margin:2rem 0;text-align:center}#empty:empty{display:none}
.error,.status-exited{color:var(--bad)}.status-running{color:var(--good)}#problem{white-space:pre-wrap}
dialog{max-width:46rem;width:90%;border:1px solid var(--line);border-radius:.5rem;padding:1rem 1.5rem}h2{margin:0 0 .5rem;font-size:1.15rem}
dialog label{display:block;margin:.5rem 0}fieldset{border:1px solid var(--line)}
input:not([type=checkbox]),select,textarea{width:100%;box-sizing:border-box;font:inherit;padding:.25rem .4rem}
textarea{font-family:ui-monospace,monospace;font-size:.85em}.row{display:grid;grid-template-columns:repeat(3,1fr);gap:.6rem}`;

const BODY = `<h1>{{TITLE}}</h1>
<div class="bar"><input id="search" type="search" autocomplete="off" aria-label="Search" placeholder="Search">
<button id="new" type="button">New machine</button> <button id="refresh" type="button">Refresh</button>
<button id="reload" type="button">Reload machines</button>
<button id="images-button" type="button" aria-expanded="false" aria-controls="images">Images</button> <a href="/api-docs">API</a></div>
<p id="message" role="status" aria-live="polite"></p>
<p id="empty"></p>
<div id="list"><table><thead><tr><th>Name</th><th>Status</th><th>Uptime</th><th>Progress</th><th>Actions</th></tr></thead>
<tbody id="machines"></tbody></table></div>
<p id="pages"><button id="previous" type="button">Previous</button> <span id="page"></span> <button id="next" type="button">Next</button></p>
<section id="images" aria-labelledby="images-title" hidden><h2 id="images-title">OS images</h2>
<table><thead><tr><th>Name</th><th>Version</th><th>State</th><th>Actions</th></tr></thead><tbody id="image-list"></tbody></table>
<p id="registry"></p></section>
<dialog id="dialog" aria-labelledby="dialog-title"><h2 id="dialog-title"></h2><form id="form">
<label>Name <input name="name" required maxlength="128"></label>
<label>Image <select name="image" required></select></label>
<div class="row"><label>vCPU <input name="vcpu" type="number" min="1" value="2" required></label>
<label>Memory, MB <input name="memory" type="number" min="256" value="2048" required></label>
<label>Disk, GB <input name="disk_size" type="number" min="1" value="20" required></label></div>
<label>app-compose.json <textarea name="compose_file" rows="12" required spellcheck="false"></textarea></label>
<p id="hash"></p>
<label>Environment, sealed in this browser: NAME=value, one a line <textarea name="environment" rows="3" spellcheck="false"></textarea></label>
<label>User configuration, not secret <textarea name="user_config" rows="3" spellcheck="false"></textarea></label>
<label>Seal approval for key provider tpm: the text of .seal-approval.json <textarea name="seal_approval" rows="2" spellcheck="false"></textarea></label>
<label>Ports: tcp:127.0.0.1:HOST:VM, one a line <textarea name="ports" rows="2" spellcheck="false"></textarea></label>
<label>KMS URLs, one a line <textarea name="kms_urls" rows="2" spellcheck="false"></textarea></label>
<label>Gateway URLs, one a line <textarea name="gateway_urls" rows="2" spellcheck="false"></textarea></label>
<label>App id <input name="app_id" placeholder="from the compose hash"></label>
<fieldset id="gpus"></fieldset>
<label><input name="hugepages" type="checkbox"> Memory in huge pages</label>
<label><input name="pin_numa" type="checkbox"> On the processors of one NUMA node</label>
<label><input name="no_tee" type="checkbox"> Without TEE</label>
<label><input name="stopped" type="checkbox"> Do not start it</label>
<p id="problem" role="alert"></p>
<button type="submit">Save</button> <button id="cancel" type="button">Cancel</button></form></dialog>`;

const hashOf = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

/** Only the page's own script and style run, and only requests to this listener leave it. */
const POLICY = [
  "default-src 'none'",
  `script-src ${hashOf(CONSOLE_SCRIPT)}`,
  `style-src ${hashOf(STYLE)}`,
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/**
 * The console: everything is in it, nothing is loaded from elsewhere.
 *
 * @param nodeName a name that the configuration's schema let through
 */
export function consolePage(nodeName: string): PlainResponse {
  const title = nodeName === '' ? 'dstack-vmm' : `${nodeName} | dstack-vmm`;
  const body = BODY.replace('{{TITLE}}', () => title);
  return {
    type: 'text/html; charset=utf-8',
    headers: {
      'Content-Security-Policy': POLICY,
      'Cache-Control': 'no-store',
      'Referrer-Policy': 'no-referrer',
    },
    body: `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${title}</title><style>${STYLE}</style></head><body>
${body}
<script>${CONSOLE_SCRIPT}</script></body></html>
`,
  };
}
