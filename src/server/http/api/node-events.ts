import type { Log } from '../../../lib/system.js';

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

const MAX_EVENTS = 200;
/** Longest text of an event. */
const MAX_TEXT = 300;

/** The last 200 events of this node, and those to come. */
export class NodeEvents {
  private events: NodeEvent[] = [];
  private lastId: number;
  private ring: ReadonlySet<string> = new Set();
  private readonly listeners = new Set<(event: NodeEvent) => void>();

  /** @param wallMs the time of day in ms since 1970 */
  constructor(private readonly wallMs: () => number) {
    this.lastId = wallMs();
  }

  /** The events after this one, oldest first, as far as they are kept. */
  after(id: number): readonly NodeEvent[] {
    // Only a clock that was set back makes an id of an earlier process larger than all of this one.
    return id > this.lastId ? this.events : this.events.filter((event) => event.id > id);
  }

  /** Calls `listener` with each new event until the returned function is called. */
  subscribe(listener: (event: NodeEvent) => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  note(level: NodeEvent['level'], text: string): void {
    this.lastId += 1;
    const event = { id: this.lastId, atMs: this.wallMs(), level, text: text.slice(0, MAX_TEXT) };
    this.events = [...this.events.slice(1 - MAX_EVENTS), event];
    for (const listener of this.listeners) listener(event);
  }

  /** Returns a log that also turns its lines into events. */
  watching(log: Log): Log {
    return {
      info: (fields, message) => {
        log.info(fields, message);
        this.noteLine('info', fields, message);
      },
      warn: (fields, message) => {
        log.warn(fields, message);
        this.noteLine('warn', fields, message);
      },
    };
  }

  private noteLine(level: NodeEvent['level'], fields: object, message: string): void {
    const { members } = fields as { members?: unknown };
    if (Array.isArray(members)) return this.noteRing(members as string[]);
    const details = Object.entries(fields).map(([name, value]) => `${name} ${JSON.stringify(value)}`);
    this.note(level, details.length === 0 ? message : `${message}: ${details.join(', ')}`);
  }

  /** Says who came and who left, instead of naming all members. */
  private noteRing(members: readonly string[]): void {
    const next = new Set(members);
    for (const id of next) if (!this.ring.has(id)) this.note('info', `${id} joined the ring`);
    for (const id of this.ring) if (!next.has(id)) this.note('info', `${id} left the ring`);
    this.ring = next;
  }
}
