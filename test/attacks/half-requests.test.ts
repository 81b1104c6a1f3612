import { connect, type Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { expect } from 'chai';
import type { RunningNode } from '../../src/app/main.js';
import { frame } from '../http/wire.js';
import { liveNode, newClient } from '../support/http.js';
import { eventually } from '../support/eventually.js';

const MAX_CONNECTIONS = 300;
const ADDRESSES = 800;
const HALF = 'POST /v1/allow HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le';
const HALF_A_BODY = 'POST /v1/allow HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 80\r\n\r\n{"clientId"';

/** Connections from many addresses of loopback, each with half a request. One that ends is opened again. */
class HalfRequests {
  opened = 0;
  private readonly sockets = new Map<number, Socket>();
  private ended = false;

  constructor(
    private readonly port: number,
    /** Sent before the half request. */
    private readonly first: Buffer | string = '',
  ) {
    for (let i = 0; i < ADDRESSES; i += 1) this.open(i);
  }

  async end(): Promise<void> {
    this.ended = true;
    for (const socket of this.sockets.values()) socket.destroy();
    await eventually(
      () => this.sockets.size,
      (open) => open === 0,
    );
  }

  private open(i: number): void {
    const localAddress = `127.9.${Math.floor(i / 200)}.${(i % 200) + 1}`;
    const socket = connect({ port: this.port, host: '127.0.0.1', localAddress }).on('error', () => undefined);
    this.sockets.set(i, socket);
    this.opened += 1;
    const half = i % 2 === 0 ? HALF : HALF_A_BODY;
    if (this.first === '') socket.write(half);
    else {
      socket.write(this.first);
      socket.once('data', () => socket.write(half));
    }
    socket.resume().on('close', () => {
      this.sockets.delete(i);
      if (!this.ended) setTimeout(() => !this.ended && this.open(i), 300).unref();
    });
  }
}

describe('half requests of 800 addresses, where a node takes 300 connections', () => {
  let node: RunningNode;
  before(async () => {
    node = await liveNode('--max-connections', String(MAX_CONNECTIONS));
  });

  const decision = (): Buffer =>
    frame('/v1/allow', JSON.stringify({ clientId: newClient(), limit: 10, window: '1d' }), {
      headers: 'Content-Type: application/json\r\n',
    });

  /** Asks on a connection. @returns the head of the answer; nothing if the connection broke */
  function ask(socket: Socket): Promise<string> {
    return new Promise((resolve) => {
      if (socket.destroyed) return resolve('');
      const done = (text: string): void => {
        socket.off('data', onData).off('close', onClose);
        resolve(text);
      };
      const onData = (chunk: Buffer): void => done(chunk.toString('latin1').slice(0, 15));
      const onClose = (): void => done('');
      socket.on('data', onData).on('close', onClose);
      socket.write(decision());
    });
  }

  function open(localAddress: string): Socket {
    return connect({ port: node.port, host: '127.0.0.1', localAddress }).on('error', () => undefined);
  }

  /** Asks on so many new connections, one after the other. @returns how many were answered */
  async function askAnew(times: number, address: (i: number) => string): Promise<number> {
    let answered = 0;
    for (let i = 0; i < times; i += 1) {
      const socket = open(address(i));
      if ((await ask(socket)) === 'HTTP/1.1 200 OK') answered += 1;
      socket.destroy();
      await wait(5);
    }
    return answered;
  }

  it('fail no request of an address that was answered before, on new connections and on an open one', async () => {
    const open1 = open('127.8.0.1');
    expect(await ask(open1)).to.equal('HTTP/1.1 200 OK');
    const attack = new HalfRequests(node.port);
    await wait(300);
    let kept = 0;
    const asking = askAnew(100, () => '127.8.0.1');
    for (let i = 0; i < 100; i += 1) {
      if ((await ask(open1)) === 'HTTP/1.1 200 OK') kept += 1;
      await wait(5);
    }
    expect([await asking, kept]).to.deep.equal([100, 100]);
    expect(attack.opened).to.be.above(ADDRESSES);
    open1.destroy();
    await attack.end();
  });

  it('leave a place to an address that is new', async () => {
    const attack = new HalfRequests(node.port);
    await wait(300);
    expect(await askAnew(100, (i) => `127.7.0.${i + 1}`)).to.equal(100);
    await attack.end();
  });

  it('fail none either once each of the addresses has had an answer', async () => {
    const attack = new HalfRequests(node.port, decision());
    await wait(300);
    expect(await askAnew(100, () => '127.8.0.1')).to.equal(100);
    expect(await askAnew(100, (i) => `127.6.0.${i + 1}`)).to.equal(100);
    await attack.end();
  });
});
