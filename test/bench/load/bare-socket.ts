/**
 * The limit that a guest agent is measured against: a bare Node server on a Unix socket that answers every request
 * with the same number of bytes. Reads {socketPath, answerBytes} from standard input, writes {port: 0}.
 */
import { createServer } from 'node:http';

process.stdin.once('data', (data: Buffer) => {
  const { socketPath, answerBytes } = JSON.parse(data.toString('utf8')) as {
    socketPath: string;
    answerBytes: number;
  };
  const answer = ' '.repeat(answerBytes);
  const server = createServer((request, response) => {
    request.resume();
    request.once('end', () => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': answerBytes });
      response.end(answer);
    });
  });
  server.listen(socketPath, () => console.log(JSON.stringify({ port: 0 })));
});
// The bench owns this process: when its end of the pipe closes, so does the server.
process.stdin.once('end', () => process.exit(0));
