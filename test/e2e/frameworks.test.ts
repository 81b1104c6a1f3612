import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { transformSync } from 'esbuild';
import { freshDist } from '../support/dist.js';
import { eventually } from '../support/eventually.js';
import { freePort } from '../support/ports.js';

const docs = readFileSync('docs/frameworks.md', 'utf8');

/** What each example takes for granted, around it. */
const AROUND: Readonly<Record<string, readonly [before: string, after: string]>> = {
  Express: ['', ''],
  Fastify: ['', ''],
  Hono: ['', ''],
  Koa: ['', ''],
  NestJS: ["import 'reflect-metadata';", ''],
  'express-rate-limit': [
    "import express from 'express'; const app = express();",
    "app.get('/', (req, res) => res.send('hello')); app.listen(port);",
  ],
  '@fastify/rate-limit': [
    "import { fastify } from 'fastify'; const app = fastify();",
    "app.get('/', () => 'hello'); await app.listen({ port });",
  ],
};

/** The example of a framework as JavaScript, on a port, with a node as its limiter. */
function programOf(name: string, port: number): string {
  const blocks = [...docs.matchAll(/```ts\n([\s\S]*?)```/g)].map((match) => match[1]!);
  const headed = new RegExp(`^## ${name}\\n[\\s\\S]*?\`\`\`ts\\n([\\s\\S]*?)\`\`\``, 'm').exec(docs)?.[1];
  const code = headed ?? blocks.find((block) => block.includes(`from '${name}'`))!;
  const [before, after] = AROUND[name]!;
  const limiter = "import { createNode } from 'tokenring'; const limiter = await createNode();";
  const source = [`${limiter} const port = ${port};`, before, code, after].join('\n');
  return transformSync(source, { loader: 'ts', tsconfigRaw: { compilerOptions: { experimentalDecorators: true } } })
    .code;
}

describe('docs/frameworks.md', function () {
  this.timeout(60_000);
  before(() => freshDist());

  for (const name of Object.keys(AROUND)) {
    it(`shows an example of ${name} that runs as it is`, async () => {
      const port = await freePort();
      const child = spawn(process.execPath, ['--input-type=module', '-e', programOf(name, port)], { stdio: 'ignore' });
      const ask = (): Promise<Response | undefined> => fetch(`http://127.0.0.1:${port}/`).catch(() => undefined);
      try {
        const isUp = (answer: unknown): boolean => answer !== undefined;
        const first = (await eventually(ask, isUp)) ?? (await eventually(ask, isUp));
        expect(first?.status).to.equal(200);
        expect(await first!.text()).to.equal('hello');
        expect([(await ask())?.status, (await ask())?.status]).to.deep.equal([200, 429]);
      } finally {
        child.kill();
      }
    });
  }
});
