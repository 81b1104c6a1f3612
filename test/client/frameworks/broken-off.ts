import { connect } from 'node:http2';
import { expect } from 'chai';
import { eventually } from '../../support/eventually.js';

interface Limited {
  readonly port: number;
  /** The header `RateLimit-Policy` of `/`. */
  readonly policy: string;
  /** Number of requests that wait at `/hang`, which never answers. */
  readonly hangs: () => number;
  readonly remaining: () => Promise<number>;
}

/** Asks a server for `/` and `/hang` over HTTP/2, under a limit of 5, and breaks off the second request. */
export async function expectBrokenGivenBack({ port, policy, hangs, remaining }: Limited): Promise<void> {
  const session = connect(`http://127.0.0.1:${port}`);
  try {
    const whole = session.request({ ':path': '/' });
    const headers = await new Promise((resolve) => whole.once('response', (got) => resolve(got)));
    expect(headers).to.include({ ':status': 200, 'ratelimit-policy': policy });
    whole.resume();
    const broken = session.request({ ':path': '/hang' });
    expect(await eventually(hangs, (now) => now === 1)).to.equal(1);
    expect(await remaining()).to.equal(3);
    broken.close();
    expect(await eventually(remaining, (left) => left === 4)).to.equal(4);
  } finally {
    session.destroy();
  }
}
