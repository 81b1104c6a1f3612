// What the client does in any runtime. It uses Web APIs alone, so that it runs in each of them.

/**
 * Runs every check, one after the other.
 * @param tokenring what `tokenring/client` exports
 * @param targets `nodes` of a ring of three, with the admin token `token`; addresses where a connection is `refused`,
 *   and where a node is `hanging`; `tellsRefusal`: whether the runtime tells that a connection was refused
 * @returns the name of each check, and what was wrong
 */
export async function conformance(tokenring, targets) {
  const results = [];
  for (const [name, check] of Object.entries(CHECKS)) {
    const clients = [];
    const open = (options) => {
      const client = tokenring.createClient({
        nodes: targets.nodes,
        token: targets.token,
        timeoutMs: 20_000,
        ...options,
      });
      clients.push(client);
      return client;
    };
    let error;
    try {
      await check({ ...tokenring, ...targets, open, id: `${targets.runtime}: ${name}` });
    } catch (thrown) {
      error = String(thrown).slice(0, 500);
    }
    for (const client of clients) await client.close();
    results.push({ name, error });
  }
  return results;
}

const DAY = { limit: 10, window: '1d' };

const CHECKS = {
  async 'allows up to the limit, and then denies'({ open, id }) {
    const client = open();
    const allowed = [];
    for (let i = 0; i < 4; i += 1) allowed.push(await client.allow(id, 3, '1d'));
    same(allowed, [true, true, true, false]);
    same(await client.remaining(id, 3, '1d'), 0);
  },

  async 'answers in full, for any id'({ open, id }) {
    const client = open();
    for (const clientId of ['__proto__', '😀', 'ü\u0000', '..', '"'.repeat(9)].map((name) => `${id} ${name}`)) {
      const limits = [
        { limit: 10, windowMs: 3_600_000 },
        { limit: 99, window: '1d', algorithm: 'sliding-window' },
      ];
      const decision = await client.check({ clientId, limits, cost: 4 });
      same([decision.allowed, decision.limit, decision.remaining, decision.degraded], [true, 10, 6, false]);
      const { buckets } = await client.describe(clientId);
      same(buckets.map(({ remaining }) => remaining).sort(), [6, 95]);
    }
  },

  async 'asks the owner of each client directly, once it knows the ring'({ open, id, nodes }) {
    const client = open({ nodes: nodes.slice(0, 1) });
    let decisions = [];
    for (let tries = 0; tries < 100; tries += 1) {
      const requests = Array.from({ length: 60 }, (_, i) => ({ clientId: `${id} ${tries} ${i}`, ...DAY }));
      decisions = await client.checkMany(requests);
      if (decisions.every(({ source }) => source === 'owner')) break;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    same([...new Set(decisions.map(({ source }) => source))], ['owner']);
    same(new Set(decisions.map(({ owner }) => owner)).size, 3);
  },

  async 'answers a batch in order, and an error with its item in place of a decision'({ open, id, TokenringError }) {
    const requests = Array.from({ length: 2_500 }, (_, i) => ({ clientId: `${id} ${i}`, limit: i + 1, window: '1d' }));
    requests[7] = { ...requests[7], limit: -1 };
    const decisions = await open().checkMany(requests);
    same(decisions.length, 2_500);
    const [error] = decisions.splice(7, 1);
    same(
      decisions.map(({ limit }) => limit).join(),
      requests.flatMap(({ limit }) => (limit < 0 ? [] : [limit])).join(),
    );
    same([error instanceof TokenringError, error.code, error.field, error.item], [true, 'invalid_request', 'limit', 7]);
  },

  async 'charges a repeat under the same request id once'({ open, id }) {
    const client = open();
    const ask = async (more) => (await client.check({ clientId: id, ...DAY, ...more })).remaining;
    same([await ask({ requestId: 'a' }), await ask({ requestId: 'a' }), await ask({}), await ask({})], [9, 9, 8, 7]);
  },

  async 'remembers a denial'({ open, id }) {
    const client = open({ rememberDenialsMs: 600_000 });
    const ask = async () => (await client.check({ clientId: id, limit: 1, window: '1d' })).source;
    await ask();
    await ask();
    same(await ask(), 'deny-cache');
  },

  async 'lets a denied request wait for its turn, or end its wait'({ open, id }) {
    const client = open();
    const request = { clientId: id, limit: 1, window: '400ms' };
    const allowed = [];
    for (let i = 0; i < 3; i += 1) allowed.push((await client.acquire(request, { wait: '5s' })).allowed);
    same(allowed, [true, true, true]);
    const abort = new AbortController();
    const hourly = { clientId: id, limit: 1, window: '10m' };
    await client.check(hourly);
    const gone = client.acquire(hourly, { wait: '1h', signal: abort.signal });
    abort.abort(new Error('given up'));
    same((await errorOf(gone)).message, 'given up');
  },

  async 'reserves a cost, settles it, and forgets a client'({ open, id }) {
    const client = open();
    const { reservation } = await client.reserve({ clientId: id, ...DAY, cost: 8 });
    same((await client.settle(reservation, 3)).remaining, 7);
    same((await errorOf(client.settle('none', 3))).status >= 400, true);
    await client.reset(id);
    same(await client.remaining(id, 10, '1d'), 10);
  },

  async 'rejects what is wrong, and names it'({ open, id, createClient, TokenringError }) {
    const error = await errorOf(open().check({ clientId: id, limit: 1, window: 'banana' }));
    same([error instanceof TokenringError, error.code, error.field], [true, 'invalid_request', 'window']);
    for (const [options, message] of [
      [{}, /^nodes: missing/],
      [{ nodes: ['ftp://x'] }, /^nodes: \["ftp:\/\/x"\] is not valid/],
      [{ nodes: ['http://a'], timeout: 5 }, /^timeout: /],
    ]) {
      let thrown;
      try {
        createClient(options);
      } catch (one) {
        thrown = one;
      }
      if (!(thrown instanceof TypeError && message.test(thrown.message))) throw new Error(`${thrown} for ${message}`);
    }
  },

  async 'says that nobody answers, with the address, and soon if the connection is refused'(context) {
    const { open, id, refused, tellsRefusal } = context;
    const beganMs = Date.now();
    const error = await errorOf(open({ nodes: [refused] }).allow(id, 1, '1d'));
    same(error.code, 'no_answer');
    if (!error.message.includes(refused)) throw new Error(`no address: ${error.message}`);
    if (!tellsRefusal) return;
    if (!error.message.includes('ECONNREFUSED')) throw new Error(`no ECONNREFUSED: ${error.message}`);
    if (Date.now() - beganMs >= 15_000) throw new Error('a refused connection waits for the timeout');
  },

  async 'asks another node if one refuses the connection, or hangs'({ open, id, nodes, refused, hanging }) {
    for (const [i, bad] of [refused, hanging].entries())
      same(await open({ nodes: [bad, nodes[0]] }).allow(`${id} ${i}`, 1, '1d'), true);
  },

  async 'gives up after the timeout, or decides as it is told'({ open, id, hanging }) {
    const beganMs = Date.now();
    const error = await errorOf(open({ nodes: [hanging], timeoutMs: 300 }).allow(id, 1, '1d'));
    same(error.code, 'no_answer');
    const tookMs = Date.now() - beganMs;
    if (tookMs < 250) throw new Error(`gave up after ${tookMs} ms`);
    const client = open({ nodes: [hanging], timeoutMs: 100, onUnavailable: 'open' });
    const { allowed, degraded, source } = await client.check({ clientId: id, ...DAY });
    same([allowed, degraded, source], [true, true, 'fallback']);
  },

  async 'rejects every call once it is closed'({ open, id }) {
    const client = open();
    const asked = client.allow(id, 1, '1d');
    await client.close();
    same(await asked, true);
    same((await errorOf(client.allow(id, 1, '1d'))).code, 'closed');
  },
};

function same(actual, expected) {
  if (JSON.stringify(actual) !== JSON.stringify(expected))
    throw new Error(`expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`);
}

async function errorOf(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('expected an error');
}
