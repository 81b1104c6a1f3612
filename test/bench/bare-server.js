/* eslint @typescript-eslint/no-floating-promises: off -- needs types, which a .js file has none of */
// What node:http alone can do: reads the body, parses it, answers what a node answers, and decides nothing.
// Argument: the answer to give, as JSON { headers: [name, value, ...], body }.
import { createServer } from 'node:http';

const { headers, body } = JSON.parse(process.argv[2]);

// The idle time is the node's, as it shows in the Keep-Alive header.
const server = createServer({ keepAliveTimeout: 65_000 }, (req, res) => {
  /** @type {Buffer[]} */
  const chunks = [];
  req.on('data', (chunk) => chunks.push(chunk));
  req.on('end', () => {
    const text = (chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)).toString();
    const { clientId } = JSON.parse(text);
    res.writeHead(typeof clientId === 'string' ? 200 : 400, headers);
    // The form that costs node:http least: headers and body in one plain write.
    res.write(body, 'latin1');
    res.socket?.uncork();
    res.end();
  });
});

server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ msg: 'ready', port: server.address().port })}\n`);
});
