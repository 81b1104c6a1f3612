import { connect } from 'node:net';
import { expect } from 'chai';
import type { RunningNode } from '../../src/main.js';
import { AuditSchema } from '../../src/validate/schema.js';
import { eventually } from '../support/eventually.js';
import { call, expectProblem, expectShape, liveNode, newClient } from '../support/http.js';

const TOKEN = 'the-Admin.token_7';
const admin = { authorization: `Bearer ${TOKEN}` };

const SAMPLE = /event: sample\ndata: \{"cluster":\{.*"members":\[.*\}\n\n/;

interface Listener {
  readonly text: string;
  close(): void;
}

function listen(node: RunningNode, headers = ''): Listener {
  const socket = connect(node.port, '127.0.0.1');
  let text = '';
  socket.setEncoding('utf8').on('data', (more: string) => (text += more));
  socket.write(`GET /v1/events HTTP/1.1\r\nHost: x\r\n${headers}\r\n`);
  return {
    get text() {
      return text;
    },
    close: () => void socket.destroy(),
  };
}

async function hears(listener: Listener, what: RegExp): Promise<void> {
  expect(
    await eventually(
      () => listener.text,
      (text) => what.test(text),
    ),
  ).to.match(what);
}

describe('/v1/events', () => {
  let node: RunningNode;
  before(async () => {
    node = await liveNode('--admin-token', TOKEN);
  });

  it('sends what happened, and a sample a second, to all who listen', async () => {
    const listeners = [listen(node), listen(node)];
    const samples = (text: string): number => text.split(SAMPLE).length - 1;
    await eventually(
      () => Math.min(...listeners.map(({ text }) => samples(text))),
      (least) => least >= 2,
    );
    for (const { text } of listeners) {
      expect(samples(text)).to.be.at.least(2);
      expect(text).to.match(
        /id: \d+\nevent: event\ndata: \{"id":\d+,"atMs":\d+,"level":"info","text":".* joined the ring"\}/,
      );
    }
    for (const one of listeners) one.close();
  });

  it('leaves out what was seen before', async () => {
    const first = listen(node);
    await hears(first, SAMPLE);
    first.close();
    const last = Math.max(...[...first.text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id)));
    const second = listen(node, `Last-Event-ID: ${last}\r\n`);
    await hears(second, SAMPLE);
    expect(second.text).not.to.include('event: event');
    second.close();
    expectProblem(
      await call(node, '/v1/events', { headers: { 'last-event-id': 'x' } }),
      'invalid_request',
      'Last-Event-ID',
    );
  });

  it('refuses more than 32 listeners, and takes another once one has gone', async () => {
    const listeners = Array.from({ length: 32 }, () => listen(node));
    for (const one of listeners) await hears(one, /200 OK/);
    expectProblem(await call(node, '/v1/events'), 'overloaded');
    listeners.pop()!.close();
    const status = await eventually(
      async () => (await call(node, '/v1/events')).status,
      (one) => one === 200,
    );
    expect(status).to.equal(200);
    for (const one of listeners) one.close();
  });
});

describe('/v1/audit', () => {
  it('shows the last changes to those who may make them, newest first', async () => {
    const node = await liveNode('--admin-token', TOKEN);
    const [first, second] = [newClient(), newClient()];
    for (const clientId of [first, second])
      await call(node, `/v1/clients/${clientId}`, { method: 'DELETE', headers: admin });
    const answer = await call(node, '/v1/audit', { headers: admin });
    expectShape(AuditSchema, answer.json);
    const { changes } = answer.json as { changes: { what: string; target: string; who: { token: string } }[] };
    expect(changes.slice(0, 2).map(({ target }) => target)).to.deep.equal([second, first]);
    expect(changes[0]!).to.deep.include({ what: 'client forgotten' });
    expect(changes[0]!.who).to.include({ token: 'TOKENRING_ADMIN_TOKEN' });
    expectProblem(await call(node, '/v1/audit'), 'unauthorized', 'Authorization');
  });
});
