import type { Log } from '../../../lib/log.js';

/** Something that happened to this node, for people who watch it. */
export interface NodeEvent {
  /** Counts up from the time of day at the start, so that a reader of an earlier process gets all of this one. */
  readonly id: number;
  /** Time of day, in ms since 1970. */
  readonly atMs: number;
  readonly level: 'info' | 'warn';
  /** One line, such as `10.0.0.2:9080 left the ring`. Never a client id. */
  readonly text: string;
}

/** The last events of this node, and those to come. */
export interface NodeEvents {
  /** The events after this one, oldest first, as far as they are kept. */
  after(id: number): readonly NodeEvent[];
  /** Calls `listener` with each new event until the returned function is called. */
  subscribe(listener: (event: NodeEvent) => void): () => void;
  /** Returns a log that also turns its lines into events. */
  watching(log: Log): Log;
  note(level: NodeEvent['level'], text: string): void;
}

const MAX_EVENTS = 200;
/** Longest text of an event. */
const MAX_TEXT = 300;

/** Keeps the last 200 events. @param deps.wallMs the time of day in ms since 1970 */
export function createNodeEvents({ wallMs }: { wallMs: () => number }): NodeEvents {
  let events: NodeEvent[] = [];
  let lastId = wallMs();
  let ring: ReadonlySet<string> = new Set();
  const listeners = new Set<(event: NodeEvent) => void>();

  function note(level: NodeEvent['level'], text: string): void {
    lastId += 1;
    const event = { id: lastId, atMs: wallMs(), level, text: text.slice(0, MAX_TEXT) };
    events = [...events.slice(1 - MAX_EVENTS), event];
    for (const listener of listeners) listener(event);
  }

  /** Says who came and who left, instead of naming all members. */
  function noteRing(members: readonly string[]): void {
    const next = new Set(members);
    for (const id of next) if (!ring.has(id)) note('info', `${id} joined the ring`);
    for (const id of ring) if (!next.has(id)) note('info', `${id} left the ring`);
    ring = next;
  }

  function noteLine(level: NodeEvent['level'], fields: object, message: string): void {
    const { members } = fields as { members?: unknown };
    if (Array.isArray(members)) return noteRing(members as string[]);
    const details = Object.entries(fields).map(([name, value]) => `${name} ${JSON.stringify(value)}`);
    note(level, details.length === 0 ? message : `${message}: ${details.join(', ')}`);
  }

  return {
    // Only a clock that was set back makes an id of an earlier process larger than all of this one.
    after: (id) => (id > lastId ? events : events.filter((event) => event.id > id)),
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    note,
    watching: (log) => ({
      info(fields, message) {
        log.info(fields, message);
        noteLine('info', fields, message);
      },
      warn(fields, message) {
        log.warn(fields, message);
        noteLine('warn', fields, message);
      },
    }),
  };
}
