/**
 * The limit that a key service is measured against: a bare Node TLS server with the same settings and
 * certificates, which answers every request with the same number of bytes and does nothing else.
 * Reads {key, cert, clientCa, answerBytes} from standard input, writes {port}.
 */
import { constants } from 'node:crypto';
import { createServer } from 'node:https';

type Settings = { key: string; cert: string; clientCa: string; answerBytes: number };

process.stdin.once('data', (data: Buffer) => {
  const { key, cert, clientCa, answerBytes } = JSON.parse(data.toString('utf8')) as Settings;
  const answer = Buffer.alloc(answerBytes, 0x20);
  const server = createServer(
    {
      key,
      cert,
      ca: clientCa,
      requestCert: true,
      rejectUnauthorized: false,
      minVersion: 'TLSv1.2',
      secureOptions: constants.SSL_OP_NO_TICKET,
    },
    (request, response) => {
      request.resume();
      request.once('end', () => {
        response.writeHead(200, { 'content-type': 'application/json', 'content-length': answer.length });
        response.end(answer);
      });
    },
  );
  server.listen(0, '127.0.0.1', () => {
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    console.log(JSON.stringify({ port: address.port }));
  });
});
// The bench owns this process: when its end of the pipe closes, so does the server.
process.stdin.once('end', () => process.exit(0));
