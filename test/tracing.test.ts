import { AsyncLocalStorage } from 'node:async_hooks';
import { context, ROOT_CONTEXT, trace, type Context, type ContextManager } from '@opentelemetry/api';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
  type ReadableSpan,
} from '@opentelemetry/sdk-trace-base';
import { expect } from 'chai';
import { createNode, type Node } from '../src/index.js';
import { startNode, type RunningNode } from '../src/app/main.js';
import { readSettings } from '../src/app/settings/settings.js';
import { ALONE, call, decisionOf, newClient, post } from './support/http.js';
import { freePorts } from './support/ports.js';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const CALLER = 'b7ad6b7169203331';
const SENT = { traceparent: `00-${TRACE}-${CALLER}-01`, tracestate: 'vendor=1' };
const JSON_TYPE = { 'content-type': 'application/json' };

/** A member of the ring under test, and its id. */
interface Member extends RunningNode {
  readonly id: string;
}

describe('OpenTelemetry', function () {
  this.timeout(60_000);
  const exporter = new InMemorySpanExporter();
  let [untraced, traced, naming]: Member[] = [];
  let stops: readonly RunningNode[] = [];

  before(async () => {
    const ports = await freePorts(3);
    const ids = ports.map((port) => `127.0.0.1:${port}`);
    const start = async (i: number, ...more: string[]): Promise<Member> => {
      const flags = ['--peer-port', String(ports[i]), '--advertise', ids[i]!, '--peers', ids.join(), '--bootstrap'];
      const settings = readSettings([...ALONE, ...(i === 0 ? flags : flags.slice(0, -1)), ...more], {});
      return Object.assign(await startNode(settings), { id: ids[i]! });
    };
    // The first member starts before a provider is registered.
    const first = await start(0);
    trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }));
    stops = [first, await start(1), await start(2, '--trace-client-ids', 'true')];
    [untraced, traced, naming] = stops as Member[];
  });
  beforeEach(() => exporter.reset());
  after(async () => {
    await Promise.all(stops.map((node) => node.stop()));
    trace.disable();
  });

  /** A client that this member owns. */
  async function clientOf(owner: Member | undefined): Promise<string> {
    for (;;) {
      const clientId = newClient();
      const { json } = await call(untraced!, `/v1/cluster/owner?clientId=${clientId}`);
      if ((json as { owner: string }).owner === owner!.id) return clientId;
    }
  }

  async function ask(node: Member | undefined, clientId: string, limit = 3, headers: object = SENT): Promise<void> {
    const body = JSON.stringify({ clientId, limit, window: '1d' });
    decisionOf(await call(node!, '/v1/allow', { method: 'POST', headers: { ...JSON_TYPE, ...headers }, body }));
  }

  function spans(): readonly ReadableSpan[] {
    return exporter.getFinishedSpans().toSorted((a, b) => a.name.localeCompare(b.name));
  }
  const attributes = (source: string, owner: Member | undefined, outcome: string): object => ({
    'tokenring.source': source,
    'tokenring.owner': owner!.id,
    'tokenring.outcome': outcome,
  });

  it('has a span at the entry, under the caller, and one at the owner, under the first', async () => {
    await ask(traced, await clientOf(naming), 0);
    const [entry, owner] = spans();
    expect(spans().map(({ name }) => name)).to.deep.equal(['tokenring.decide', 'tokenring.decide.owner']);
    expect(entry!.parentSpanContext).to.include({ traceId: TRACE, spanId: CALLER, isRemote: true });
    expect(entry!.attributes).to.deep.equal(attributes('forwarded', naming, 'denied'));
    expect(owner!.parentSpanContext?.spanId).to.equal(entry!.spanContext().spanId);
    expect(owner!.spanContext().traceId).to.equal(TRACE);
    expect(owner!.spanContext().traceState?.serialize()).to.equal('vendor=1');
    expect(owner!.attributes).to.include(attributes('owner', naming, 'denied'));
  });

  it('names the client only where that is asked for', async () => {
    const clientId = await clientOf(naming);
    await ask(traced, clientId);
    const [entry, owner] = spans();
    expect(JSON.stringify([entry!.name, entry!.attributes])).not.to.include(clientId);
    expect(owner!.attributes).to.include({ 'tokenring.client_id': clientId });
  });

  it('has one span where the entry owns the client, in a trace of its own without a caller', async () => {
    await ask(traced, await clientOf(traced), 3, {});
    expect(spans()).to.have.length(1);
    expect(spans()[0]!.attributes).to.deep.equal(attributes('owner', traced, 'allowed'));
    expect(spans()[0]!.parentSpanContext).to.equal(undefined);
  });

  it('passes the trace of the caller on where the entry does not trace', async () => {
    await ask(untraced, await clientOf(traced));
    expect(spans().map(({ name }) => name)).to.deep.equal(['tokenring.decide.owner']);
    expect(spans()[0]!.parentSpanContext).to.include({ traceId: TRACE, spanId: CALLER });
    exporter.reset();
    // Neither has a request without a trace one there, nor one with half of one.
    for (const headers of [{}, { traceparent: `00-${TRACE}-${CALLER}` }])
      await ask(untraced, await clientOf(traced), 3, headers);
    expect(spans()).to.deep.equal([]);
  });

  for (const direct of [true, false]) {
    it(`has spans for each decision of a batch, ${direct ? 'straight from the socket' : 'through node:http'}`, async () => {
      const requests = [await clientOf(naming), await clientOf(traced)].map((clientId) => ({
        clientId,
        limit: 3,
        window: '1d',
      }));
      const headers = { ...JSON_TYPE, ...SENT, ...(!direct && { 'x-other': '1' }) };
      const body = JSON.stringify({ requests: [requests[0], {}, requests[1]] });
      const answer = await call(traced!, '/v1/allow/batch', { method: 'POST', headers, body });
      const { results } = answer.json as { results: readonly object[] };
      expect(results.map((one) => ('error' in one ? 'error' : (one as { source: string }).source))).to.deep.equal([
        'forwarded',
        'error',
        'owner',
      ]);
      const entries = spans().filter(({ name }) => name === 'tokenring.decide');
      expect(entries.map((one) => one.attributes['tokenring.source'])).to.have.members(['forwarded', 'owner']);
      for (const entry of entries) expect(entry.parentSpanContext?.spanId).to.equal(CALLER);
      expect(spans()).to.have.length(3);
    });
  }

  it('decides a usual batch that carries a trace as one that does not', async () => {
    const requests = Array.from({ length: 40 }, () => ({ clientId: newClient(), limit: 1, window: '1d' }));
    const twice = { requests: [...requests, ...requests] };
    const headers = { ...JSON_TYPE, ...SENT };
    const answer = await call(untraced!, '/v1/allow/batch', { method: 'POST', headers, body: JSON.stringify(twice) });
    const { results } = answer.json as { results: readonly { allowed: boolean }[] };
    expect(results.filter(({ allowed }) => allowed)).to.have.length(40);
    const again = await post(traced!, '/v1/allow/batch', twice);
    expect((again.json as { results: { allowed: boolean }[] }).results.some(({ allowed }) => allowed)).to.equal(false);
  });

  it('has no span for a request that is not valid', async () => {
    const answer = await call(traced!, '/v1/check/nginx', { headers: { ...SENT, 'x-tokenring-client': 'x' } });
    expect(answer.status).to.equal(400);
    expect(spans()).to.deep.equal([]);
  });

  describe('in the process of an application', () => {
    let node: Node;
    const storage = new AsyncLocalStorage<Context>();
    const manager: ContextManager = {
      active: () => storage.getStore() ?? ROOT_CONTEXT,
      with: (now, work, self, ...args) => storage.run(now, () => work.call(self as never, ...args)),
      bind: (_now, target) => target,
      enable: () => manager,
      disable: () => manager,
    };
    before(async () => {
      context.setGlobalContextManager(manager);
      node = await createNode();
    });
    after(async () => {
      await node.close();
      context.disable();
    });

    it('has a span under the one in progress', async () => {
      const tracer = trace.getTracer('application');
      await tracer.startActiveSpan('a request', async (span) => {
        expect(await node.allow('alice', 1, '1m')).to.equal(true);
        span.end();
      });
      const [above, decision] = spans();
      expect(decision!.name).to.equal('tokenring.decide');
      expect(decision!.parentSpanContext?.spanId).to.equal(above!.spanContext().spanId);
    });
  });
});
