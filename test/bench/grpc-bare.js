// A bare server of unary calls, for the tables in docs/decisions.md and docs/testing.md. It reads a message and sends
// an answer with a status. It neither decodes the message nor decides:
// node test/bench/grpc-bare.js http2|grpc-js PORT (0: a free one). It prints a line of JSON with its port.
import { createServer } from 'node:http2';

const [library, port] = process.argv.slice(2);
/** overall_code OK, and one status with its limit. */
const ANSWER = Buffer.from([8, 1, 18, 12, 8, 1, 18, 4, 8, 100, 16, 2, 24, 99, 34, 0]);

if (library === 'grpc-js') {
  const { Server, ServerCredentials } = await import('@grpc/grpc-js');
  const same = (bytes) => bytes;
  const server = new Server();
  const method = { requestStream: false, responseStream: false, requestSerialize: same, requestDeserialize: same };
  const path = '/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit';
  server.addService(
    { ShouldRateLimit: { ...method, path, responseSerialize: same, responseDeserialize: same } },
    { ShouldRateLimit: (_call, answer) => answer(null, ANSWER) },
  );
  server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (_error, bound) => ready(bound));
} else {
  const framed = Buffer.concat([Buffer.from([0, 0, 0, 0, ANSWER.length]), ANSWER]);
  const server = createServer();
  server.on('stream', (stream) => {
    let asked = Buffer.alloc(0);
    // A caller that resets its call must not end the server.
    stream.on('error', () => {});
    stream.on('data', (chunk) => (asked = asked.length === 0 ? chunk : Buffer.concat([asked, chunk])));
    stream.on('end', () => {
      const isWhole = asked.length >= 5 && asked[0] === 0 && asked.readUInt32BE(1) === asked.length - 5;
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': isWhole ? '0' : '3' }));
      stream.end(framed);
    });
  });
  server.listen(Number(port), '127.0.0.1', () => ready(server.address().port));
}

function ready(bound) {
  process.stdout.write(`${JSON.stringify({ msg: 'ready', port: bound })}\n`);
}
