/** The web service of a project for virtual machines: CommonJS for plain Node, since its image brings nothing else. */
export const VM_SERVICE: string = `'use strict';
// A small web service for plain Node: who am I, which key do I hold, a quote for your nonce.
const http = require('node:http');
const { createECDH, randomBytes } = require('node:crypto');

const socketPath = process.env.DSTACK_SIMULATOR_ENDPOINT || '/var/run/dstack.sock';
const escape = (text) => String(text).replace(/[&<>"']/g, (c) => '&#' + c.charCodeAt(0) + ';');

// A method of the guest agent: JSON by POST over its socket.
function ask(method, parameters) {
  return new Promise((resolve, reject) => {
    const body = JSON.stringify(parameters);
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const request = http.request({ socketPath, path: '/' + method, method: 'POST', headers }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part) => (text += part));
      response.on('error', reject);
      response.on('end', () => {
        if (response.statusCode !== 200) return reject(new Error(method + ': ' + text.slice(0, 500)));
        try {
          resolve(JSON.parse(text));
        } catch (error) {
          reject(error);
        }
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

async function describe(nonce) {
  const info = await ask('Info', {});
  const { key } = await ask('GetKey', { path: 'wallet/main', purpose: 'ethereum' });
  const { quote } = await ask('GetQuote', { report_data: nonce });
  const pair = createECDH('secp256k1');
  pair.setPrivateKey(key, 'hex');
  return {
    app_id: info.app_id,
    instance_id: info.instance_id,
    compose_hash: info.compose_hash,
    app_name: info.app_name,
    public_key: pair.getPublicKey('hex'),
    nonce,
    quote,
  };
}

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost');
  const send = (status, type, body) => {
    response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
    response.end(body);
  };
  if (url.pathname !== '/') return send(404, 'text/plain', 'not found');
  const nonce = url.searchParams.get('nonce') || randomBytes(32).toString('hex');
  if (!/^([0-9a-f]{2}){1,64}$/.test(nonce)) return send(400, 'text/plain', 'nonce: 1 to 64 bytes of hex');
  describe(nonce).then(
    (page) => {
      const json = (request.headers.accept || '').includes('json');
      if (json) return send(200, 'application/json', JSON.stringify(page));
      const rows = Object.entries(page).map(([k, v]) => '<dt>' + escape(k) + '<dd><code>' + escape(v) + '</code>');
      const style = '<style>code{overflow-wrap:anywhere}</style>';
      send(200, 'text/html; charset=utf-8', '<!doctype html><title>dstack app</title>' + style + '<h1>' +
        escape(page.app_name) + '</h1><dl>' + rows.join('') + '</dl>');
    },
    (error) => send(503, 'text/plain', 'The guest agent does not answer: ' + error.message),
  );
});
server.listen(Number(process.env.PORT || 8080), () => console.log('Listening on port ' + server.address().port));
process.on('SIGTERM', () => process.exit(0));
`;
