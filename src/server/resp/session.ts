import type { Access, Role } from '../edge/access/access.js';
import type { Protocol } from './value.js';

/** Wrong tokens after which a connection ends. */
const MAX_WRONG_TOKENS = 3;

/** The state of one connection that commands read and change. */
export interface Session {
  readonly id: number;
  protocol: Protocol;
  /** The name that the client gave the connection. */
  name: string;
  /** Whether the connection ends after the answer to this command. */
  ends: boolean;
  /** Forgets everything that commands changed. */
  reset(): void;
  /** Shows a token. @returns whether the node knows it, under this name if one is given */
  show(token: string, user: string | undefined): boolean;
  /**
   * Checks that the connection may use a role now: a token that was removed from the file opens nothing any more.
   * @throws TokenringError `unauthorized`, `forbidden`
   */
  require(role: Role): void;
  /** Checks that the connection has shown a token, if decisions need one. @throws TokenringError `unauthorized` */
  requireKnown(): void;
}

/** The name that Redis gives the user of clients that name none. */
const DEFAULT_USER = 'default';
let sessions = 0;

export function createSession(access: Access): Session {
  let token: string | undefined;
  let wrongTokens = 0;
  /** Roles that were checked, under this revision of the rules. Each check hashes the token. */
  let admitted = new Set<Role>();
  let revision = access.revision();

  const session: Session = {
    id: (sessions += 1),
    protocol: 2,
    name: '',
    ends: false,
    reset() {
      session.protocol = 2;
      session.name = '';
      token = undefined;
      admitted = new Set();
    },
    show(shown, user) {
      const known = access.nameOf(shown);
      if (known !== undefined && (user === undefined || user === DEFAULT_USER || user === known)) {
        token = shown;
        admitted = new Set();
        return true;
      }
      wrongTokens += 1;
      if (wrongTokens === MAX_WRONG_TOKENS) session.ends = true;
      return false;
    },
    require(role) {
      if (revision !== access.revision()) {
        revision = access.revision();
        admitted = new Set();
      }
      if (admitted.has(role)) return;
      access.admit(token === undefined ? undefined : `Bearer ${token}`, role);
      admitted.add(role);
    },
    requireKnown() {
      if (!access.guardsDecisions()) return;
      if (token === undefined || access.nameOf(token) === undefined) session.require('decide');
    },
  };
  return session;
}
