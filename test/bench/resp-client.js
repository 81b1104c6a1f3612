/* eslint @typescript-eslint/no-floating-promises: off -- needs types, which a .js file has none of */
// Pipelines of 64 commands on one connection, for clients drawn evenly, with four pipelines under way.
// Arguments: port; `throttle` for CL.THROTTLE, or the hash of a script that answers the same; seconds; number of clients.
import { connect } from 'node:net';

const PIPELINE = 64;
const UNDER_WAY = 4;
const PREPARED = 512;
/** Lines of an answer of five numbers. */
const LINES = 6;
const LF = 0x0a;

const [port, kind, seconds, clients] = process.argv.slice(2);

/** @param {readonly string[]} args */
function command(args) {
  return `*${args.length}\r\n${args.map((arg) => `$${arg.length}\r\n${arg}\r\n`).join('')}`;
}

function question() {
  const client = `client-${String(Math.floor(Math.random() * Number(clients))).padStart(13, '0')}`;
  const rule = ['9999', '10000', '60', '1'];
  return command(kind === 'throttle' ? ['CL.THROTTLE', client, ...rule] : ['EVALSHA', kind, '1', client, ...rule]);
}

// Made in advance, so that the generator's core has time to spare.
const pipelines = Array.from({ length: PREPARED }, () =>
  Buffer.from(Array.from({ length: PIPELINE }, question).join('')),
);
let sent = 0;
let lines = 0;
let answered = 0;
let done = false;
const socket = connect({ port: Number(port), host: '127.0.0.1', noDelay: true });
const send = () => socket.write(pipelines[sent++ % PREPARED]);

socket.on('data', (chunk) => {
  if (answered === 0 && chunk[0] !== 0x2a) throw new Error(chunk.toString());
  for (let at = chunk.indexOf(LF); at >= 0; at = chunk.indexOf(LF, at + 1)) lines += 1;
  while (lines >= LINES * PIPELINE) {
    lines -= LINES * PIPELINE;
    answered += PIPELINE;
    if (!done) send();
  }
  if (done && answered === sent * PIPELINE) {
    process.stdout.write(
      `${JSON.stringify({ decisions: answered, seconds: (performance.now() - startMs) / 1_000 })}\n`,
    );
    socket.end();
  }
});
const startMs = performance.now();
for (let i = 0; i < UNDER_WAY; i += 1) send();
setTimeout(() => (done = true), Number(seconds) * 1_000);
