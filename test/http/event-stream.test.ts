import { EventEmitter } from 'node:events';
import { connect } from 'node:net';
import { expect } from 'chai';
import type { Request, Response } from 'express';
import { EventStream } from '../../src/server/http/api/event-stream.js';
import { NodeEvents } from '../../src/server/http/api/node-events.js';
import { Access, digestOf } from '../../src/server/edge/access.js';
import type { RunningNode } from '../../src/app/main.js';
import { AuditSchema } from '../../src/server/validate/schema.js';
import { eventually } from '../support/eventually.js';
import { call, expectProblem, expectShape, liveNode, newClient } from '../support/http.js';
import { connect as connectWire } from './wire.js';

const TOKEN = 'the-Admin.token_7';
const admin = { authorization: `Bearer ${TOKEN}` };

const SAMPLE = /event: sample\ndata: \{"cluster":\{.*"members":\[.*\}\n\n/;

interface Listener {
  readonly text: string;
  close(): void;
}

function listen(node: RunningNode, headers = '', localAddress = '127.0.0.1'): Listener {
  const socket = connect({ port: node.port, host: '127.0.0.1', localAddress });
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

  it('takes at most 8 listeners of one address, and so leaves room for others', async () => {
    const own = Array.from({ length: 8 }, () => listen(node));
    for (const one of own) await hears(one, /200 OK/);
    const refused = await call(node, '/v1/events');
    expectProblem(refused, 'overloaded');
    expect(JSON.stringify(refused.json)).to.include('8 times');
    const other = listen(node, '', '127.0.0.2');
    await hears(other, /200 OK/);
    for (const one of [...own, other]) one.close();
  });

  it('refuses more than 32 listeners, and takes another once one has gone', async () => {
    const listeners = Array.from({ length: 32 }, (_, i) => listen(node, '', `127.0.0.${3 + (i >> 3)}`));
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

describe('a subscriber of /v1/events', () => {
  const TOKENS = ['one', 'two'].map((name) => ({ name, roles: ['read'] as const, digest: digestOf(name) }));

  /** A response whose reader takes nothing, so that it does not close by itself. */
  class StuckResponse extends EventEmitter {
    readonly writableLength = 0;
    text = '';
    ended = false;
    writeHead(): void {
      this.text = '';
    }
    write(text: string): void {
      if (this.ended) throw new Error('written after its end');
      this.text += text;
    }
    end(): void {
      this.ended = true;
    }
  }

  let stopping = false;
  const events = new NodeEvents(() => 0);
  const access = new Access({ required: ['read'], tokens: TOKENS });
  const stream = new EventStream({
    membership: {} as never,
    observer: { reports: () => new Promise(() => undefined) },
    events,
    context: { access, stage: () => (stopping ? 'stopping' : 'ready') },
  });

  function subscribe(token: string): StuckResponse {
    const res = new StuckResponse();
    const headers: Record<string, string> = { authorization: `Bearer ${token}` };
    const req = { method: 'GET', headers, get: () => undefined } as unknown as Request;
    void stream.answer(req, res as unknown as Response, () => undefined);
    return res;
  }

  it('counts by its token, not by its address, which many may share behind a proxy', () => {
    const mine = Array.from({ length: 8 }, () => subscribe('one'));
    expect(() => subscribe('one')).to.throw('8 times');
    const other = subscribe('two');
    for (const res of [...mine, other]) res.emit('close');
  });

  it('gets nothing more within a second of its token being withdrawn, and others go on', async () => {
    const [one, two] = [subscribe('one'), subscribe('two')];
    access.replace({ required: ['read'], tokens: TOKENS.slice(1) });
    await eventually(
      () => one.ended,
      (ended) => ended,
    );
    events.note('info', 'something');
    expect({ one: one.ended, two: two.ended }).to.deep.equal({ one: true, two: false });
    expect(one.text).not.to.include('something');
    expect(two.text).to.include('something');
    two.emit('close');
  });

  it('is not written to after its end when the node stops, however slowly it reads', async () => {
    const res = subscribe('two');
    stopping = true;
    await eventually(
      () => res.ended,
      (ended) => ended,
    );
    expect(() => events.note('info', 'the last one')).not.to.throw();
    expect(res.ended).to.equal(true);
    expect(subscribe('two').ended).to.equal(true);
  });

  it('with HEAD gets the head alone', async () => {
    const node = await liveNode('--admin-token', TOKEN);
    const wire = await connectWire(node.port);
    wire.send('HEAD /v1/events HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n');
    expect((await wire.answers(2)).map(({ status }) => status)).to.deep.equal([200, 404]);
    wire.destroy();
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
