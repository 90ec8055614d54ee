import { createHash } from 'node:crypto';
import { UNPRINTABLE } from '@dstack-cloud/encoding';

const STYLE = `body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}
label{display:block;margin:.6rem 0}input{width:100%;padding:.4rem;box-sizing:border-box}
button{padding:.5rem 1rem;margin:.4rem .4rem .4rem 0}pre{background:#8881;padding:1rem;overflow:auto;white-space:pre-wrap;word-break:break-all}`;

const SCRIPT = `const byId=(id)=>document.getElementById(id);
const shown=(text)=>text.slice(0,65536).replace(/${UNPRINTABLE.source}/gu,(c)=>c==='\\n'?c:'\\\\u{'+c.codePointAt(0).toString(16)+'}');
const out=(value)=>{byId('out').textContent=shown(typeof value==='string'?value:JSON.stringify(value,null,2))};
const headers=()=>{const token=byId('token').value;return token?{Authorization:'Bearer '+token}:{}};
async function call(method,body){
  const answer=await fetch('/prpc/Onboard.'+method+'?json',{method:'POST',headers:headers(),body:JSON.stringify(body)});
  const text=await answer.text();let json;try{json=JSON.parse(text)}catch{throw new Error(text)}
  if(!answer.ok)throw new Error(json.error||text);return json}
const run=(work)=>async()=>{out('Working ...');try{out(await work())}catch(error){out('Failed: '+error.message)}};
byId('info').onclick=run(()=>call('GetAttestationInfo',{}));
byId('bootstrap').onclick=run(async()=>{const r=await call('Bootstrap',{domain:byId('domain').value});
  return{caPubkey:'0x'+r.ca_pubkey,k256Pubkey:'0x'+r.k256_pubkey,attestation:'0x'+r.attestation}});
byId('onboard').onclick=run(()=>{const url=byId('source').value.replace(/\\/+$/,'');
  return call('Onboard',{source_url:url.endsWith('/prpc')?url:url+'/prpc',domain:byId('domain').value})});
byId('finish').onclick=run(async()=>{const a=await fetch('/finish',{headers:headers()});return await a.text()});`;

/** The setup page: everything is in it, nothing is loaded from elsewhere. */
export const SETUP_PAGE: string = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>dstack-kms setup</title><style>${STYLE}</style></head><body>
<h1>dstack-kms setup</h1>
<p>Register the measurements below with your policy, then make new root keys (Bootstrap) or copy those of another
KMS (Onboard), then Finish.</p>
<label>Onboard token, if one is configured <input id="token" type="password" autocomplete="off"></label>
<button id="info">Show attestation info</button>
<label>Domain of this KMS <input id="domain" placeholder="kms.example.com"></label>
<button id="bootstrap">Bootstrap</button>
<label>Source KMS <input id="source" placeholder="https://other-kms.example.com:12001"></label>
<button id="onboard">Onboard</button>
<button id="finish">Finish</button>
<pre id="out" aria-live="polite"></pre>
<script>${SCRIPT}</script></body></html>
`;

const hashOf = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

/** Only the page's own script and style run, and only requests to this listener leave it. */
export const SETUP_PAGE_HEADERS: Readonly<Record<string, string>> = {
  'Content-Security-Policy': `default-src 'none'; script-src ${hashOf(SCRIPT)}; style-src ${hashOf(STYLE)}; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  'Cache-Control': 'no-store',
};
