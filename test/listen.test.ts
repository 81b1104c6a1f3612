import { expect } from 'chai';
import { createServer } from 'node:net';
import { listen, sharingOf } from '../src/lib/listen.js';

describe('a port', () => {
  it('is shared by the kernel where Node can ask for it and the kernel spreads the connections, else by the supervisor', () => {
    for (const version of ['23.1.0', '24.0.0', '30.2.1']) expect(sharingOf(version, 'linux')).to.equal('by-kernel');
    for (const version of ['20.19.0', '22.21.1', '23.0.0'])
      expect(sharingOf(version, 'linux')).to.equal('by-supervisor');
    expect(sharingOf('24.0.0', 'darwin')).to.equal('by-supervisor');
    expect(sharingOf('24.0.0', 'win32')).to.equal('by-supervisor');
  });

  it('is taken for one alone, or not at all', async () => {
    const server = createServer();
    const port = await listen(server, { port: 0, host: '127.0.0.1', setting: 'port' });
    const error = await listen(createServer(), { port, host: '127.0.0.1', setting: 'port' }).then(
      () => undefined,
      (reason: unknown) => reason as NodeJS.ErrnoException,
    );
    expect(error).to.include({ code: 'EADDRINUSE', syscall: 'listen' });
    expect(error?.message).to.equal(
      `port: cannot listen on 127.0.0.1:${port} (EADDRINUSE): another program uses the port; stop it, or choose another port`,
    );
    server.close();
  });
});
