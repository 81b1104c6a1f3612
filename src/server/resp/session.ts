import type { Access, Role } from '../edge/access.js';
import type { Protocol } from './value.js';

/** Wrong tokens after which a connection ends. */
const MAX_WRONG_TOKENS = 3;

/** The name that Redis gives the user of clients that name none. */
const DEFAULT_USER = 'default';
let sessions = 0;

/** The state of one connection that commands read and change. */
export class Session {
  readonly id = (sessions += 1);
  protocol: Protocol = 2;
  /** The name that the client gave the connection. */
  name = '';
  /** Whether the connection ends after the answer to this command. */
  isEnding = false;
  private token: string | undefined = undefined;
  private wrongTokens = 0;
  /** Roles that were checked, under this revision of the rules. Each check hashes the token. */
  private readonly admitted = new Set<Role>();
  private revision: number;

  constructor(private readonly access: Access) {
    this.revision = access.revision();
  }

  /** Forgets everything that commands changed. */
  reset(): void {
    this.protocol = 2;
    this.name = '';
    this.token = undefined;
    this.admitted.clear();
  }

  /** Shows a token. @returns whether the node knows it, under this name if one is given */
  authenticate(token: string, user: string | undefined): boolean {
    const known = this.access.nameOf(token);
    if (known !== undefined && (user === undefined || user === DEFAULT_USER || user === known)) {
      this.token = token;
      this.admitted.clear();
      return true;
    }
    this.wrongTokens += 1;
    if (this.wrongTokens === MAX_WRONG_TOKENS) this.isEnding = true;
    return false;
  }

  /**
   * Checks that the connection may use a role now: a token that was removed from the file opens nothing any more.
   * @throws TokenringError `unauthorized`, `forbidden`
   */
  requireRole(role: Role): void {
    const { access, admitted } = this;
    if (this.revision !== access.revision()) {
      this.revision = access.revision();
      admitted.clear();
    }
    if (admitted.has(role)) return;
    access.authorize(this.token === undefined ? undefined : `Bearer ${this.token}`, role);
    admitted.add(role);
  }

  /** Checks that the connection has shown a token, if decisions need one. @throws TokenringError `unauthorized` */
  requireToken(): void {
    if (!this.access.guardsDecisions()) return;
    if (this.token === undefined || this.access.nameOf(this.token) === undefined) this.requireRole('decide');
  }
}
