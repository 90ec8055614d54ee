/** The template's web service: CommonJS, so that it runs from any folder of a machine. */
export const WEB_SERVICE: string = `'use strict';
// A small web service with the npm SDK, unchanged: who am I, what address do I hold, a quote for your nonce.
const http = require('node:http');
const { randomBytes } = require('node:crypto');
const { DstackClient } = require('@phala/dstack-sdk');
const { toViemAccountSecure } = require('@phala/dstack-sdk/viem');

const client = new DstackClient();
const port = Number(process.env.PORT || 8080);
const escape = (text) => String(text).replace(/[&<>"']/g, (c) => '&#' + c.charCodeAt(0) + ';');

async function describe(nonce) {
  const info = await client.info();
  const account = toViemAccountSecure(await client.getKey('wallet/main', 'ethereum'));
  const quote = await client.getQuote(Buffer.from(nonce, 'hex'));
  return {
    app_id: info.app_id,
    instance_id: info.instance_id,
    compose_hash: info.compose_hash,
    app_name: info.app_name,
    address: account.address,
    nonce,
    quote: quote.quote,
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
server.listen(port, process.env.HOST || undefined, () => console.log('Listening on port ' + port));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
process.on('SIGTERM', () => server.closeIdleConnections());
`;
