import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { createHmac256 } from './hmac.js';
import type { Hmac } from './hmac.js';
import { createReplayWindow } from './replay-window.js';
import type { ReplayWindow } from './replay-window.js';

/*
 * Peers prove to each other, on every message and every answer, that they know the shared secret, by HMAC-SHA256.
 * Nothing compares clocks, as those of two nodes may be hours apart.
 *
 *     sender                                                    receiver, at first with boot id B
 *       message, boot "-" (or an old one), S, n, MAC ─────────▶  unknown boot
 *       ◀──────────────────────────────── 401, B, MAC over status, S, n and the body
 *       message, boot B, S, n + 1, MAC ───────────────────────▶  right MAC, n + 1 not used in S: taken
 *       ◀──────────────────────────────── answer, MAC over status, B, S, n + 1 and the body
 *
 * - A message is worth nothing at another node, or after a restart: B is random, and part of the MAC.
 * - Nor a second time at the same node: S is the sender's random id for this one receiver, n never repeats in it, and a
 *   window of n per session refuses what was used, and what is too old to tell.
 * - The table of sessions is bounded. A session that was dropped would look like a new one, so its messages could be
 *   played again. Therefore a session begins only under the present B, and B changes whenever one is dropped: sessions in
 *   the table go on under the B they began with, and what was sent in a dropped one names a B that is gone for good.
 *   Only who knows the secret begins a session, so no stranger can push one out.
 * - An answer belongs to one request: B, S and n name it. Keys for the two directions differ, so a message cannot be
 *   played back as an answer. Nothing is signed for who has not proved the secret, so a stranger cannot collect answers.
 *
 * Who can redirect connections can bring a sender to a node it did not mean, as a restart looks no different; that node
 * answers in its own name. A refusal makes the sender repeat a message, as a lost answer does: messages bear that.
 */

/** Each 128 random bits in base64url. */
const ID = '[\\w-]{22}';
/** What a sender that knows no boot id yet says instead. */
const NO_BOOT = '-';
const BOOT = new RegExp(`^${ID}$`);
const CREDENTIALS = new RegExp(`^Tokenring (${ID}|${NO_BOOT})\\.(${ID})\\.([1-9]\\d{0,14})\\.([\\w-]{43})$`);
/** Sessions of a receiver: one for each process that has sent to it. */
const MAX_SESSIONS = 1_024;

/** A message's own identifiers, signed: the value of `Authorization`, and what the answer's MAC must cover. */
export interface Signed {
  readonly authorization: string;
  /** Whether an answer with this status and body comes from who has read this message. */
  verifies(status: number, body: Buffer, mac: string | undefined): boolean;
}

/** The sending side towards one receiver. */
export interface Signer {
  sign(body: Buffer): Signed;
  /** Takes over the receiver's present boot id, from a refusal that `verifies`. */
  learn(boot: string): void;
}

type AuthRefusal = 'no_credentials' | 'unknown_boot' | 'wrong_secret' | 'replayed' | 'too_old';

export interface Credentials {
  readonly boot: string;
  readonly session: string;
  readonly counter: number;
  readonly mac: string;
}

/** The receiving side: one for all senders. */
export interface Verifier {
  /** Sessions begin under this one. */
  readonly boot: string;
  readonly sessions: number;
  /** Reads `Authorization`; `undefined` when it has not the right form. Proves nothing yet. */
  read(authorization: string | undefined): Credentials | undefined;
  /** Accepts a message, once. `undefined`: it is authentic and new. */
  accept(credentials: Credentials, body: Buffer): AuthRefusal | undefined;
  /** The MAC of an answer to an authentic message; not to be given for `wrong_secret`. */
  signAnswer(credentials: Credentials, status: number, body: string | Buffer): string;
}

export interface PeerAuth {
  createSigner(): Signer;
  createVerifier(options?: { maxSessions?: number }): Verifier;
}

export function createPeerAuth(secret: string): PeerAuth {
  const requestHmac = hmacFor(secret, 'tokenring peer v1 request');
  const answerHmac = hmacFor(secret, 'tokenring peer v1 answer');

  // No part but the last can hold a newline, so two different messages never make the same text.
  function macOfRequest(boot: string, session: string, counter: number, body: Buffer): string {
    return requestHmac(`POST /peer/v2/message\n${boot}\n${session}\n${counter}\n`, body);
  }

  function macOfAnswer(status: number, boot: string, session: string, counter: number, body: Buffer | string): string {
    return answerHmac(`${status}\n${boot}\n${session}\n${counter}\n`, body);
  }

  function createSigner(): Signer {
    const session = randomId();
    let boot = NO_BOOT;
    let counter = 0;
    return {
      sign(body) {
        const signedFor = boot;
        const n = (counter += 1);
        return {
          authorization: `Tokenring ${signedFor}.${session}.${n}.${macOfRequest(signedFor, session, n, body)}`,
          verifies: (status, answer, mac) =>
            mac !== undefined && sameText(mac, macOfAnswer(status, signedFor, session, n, answer)),
        };
      },
      learn(learnt) {
        if (BOOT.test(learnt)) boot = learnt;
      },
    };
  }

  function createVerifier({ maxSessions = MAX_SESSIONS }: { maxSessions?: number } = {}): Verifier {
    let boot = randomId();
    const sessions = new LRUCache<string, ReplayWindow>({
      max: maxSessions,
      dispose: (_window, _key, reason) => {
        if (reason === 'evict') boot = randomId();
      },
    });

    return {
      get boot() {
        return boot;
      },
      get sessions() {
        return sessions.size;
      },
      read(authorization) {
        const parts = authorization === undefined ? null : CREDENTIALS.exec(authorization);
        if (parts === null) return undefined;
        return { boot: parts[1]!, session: parts[2]!, counter: Number(parts[3]), mac: parts[4]! };
      },
      accept(credentials, body) {
        const { boot: saidBoot, session, counter, mac } = credentials;
        if (!sameText(mac, macOfRequest(saidBoot, session, counter, body))) return 'wrong_secret';
        const key = `${saidBoot}.${session}`;
        let window = sessions.get(key);
        if (window === undefined) {
          if (saidBoot !== boot) return 'unknown_boot';
          sessions.set(key, (window = createReplayWindow()));
        }
        const use = window.use(counter);
        if (use === 'fresh') return undefined;
        return use === 'used' ? 'replayed' : 'too_old';
      },
      signAnswer: ({ boot: saidBoot, session, counter }, status, body) =>
        macOfAnswer(status, saidBoot, session, counter, body),
    };
  }

  return { createSigner, createVerifier };
}

/** With a key for one purpose, so that what is made for one proves nothing for another. */
function hmacFor(secret: string, purpose: string): Hmac {
  return createHmac256(createHmac('sha256', secret).update(purpose).digest());
}

function randomId(): string {
  return randomBytes(16).toString('base64url');
}

/** Compares two MACs in a time that says nothing about where they differ. */
function sameText(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a, 'latin1'), Buffer.from(b, 'latin1'));
}
