import { charCodeAt } from '../lib/char-code-at.js';
import { createCells } from './cells.js';
import type { Cells } from './cells.js';

/** Bytes of a cell, by size class. An id takes a cell of the smallest class that holds it. UUIDs have 36 bytes. */
const CLASS_BYTES = [8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 64, 96, 128, 192, 256];
const MAX_ID_BYTES = 256;
const CELLS_PER_PAGE_SHIFT = 10;

/** Ids of clients as UTF-8 bytes outside the heap. Its cell number and its length in bytes identify each id. */
interface ClientIds {
  /** Length in bytes of the id that was written last. */
  writtenBytes(): number;
  /** Bytes of the cells of all ids. */
  heldBytes(): number;
  /** Bytes of the cell for an id of so many bytes. */
  cellBytes(bytes: number): number;
  /** Stores an id. @returns its cell */
  write(id: string): number;
  /** @param bytes length of the id, 1 to 256 */
  read(cell: number, bytes: number): string;
  equals(cell: number, bytes: number, id: string): boolean;
  equalsBytes(cell: number, bytes: number, other: Uint8Array, at: number): boolean;
  /** Copies an id into a buffer that has room for it. */
  copy(cell: number, bytes: number, target: Buffer, at: number): void;
  release(cell: number, bytes: number): void;
}

export function createClientIds(): ClientIds {
  const classes = CLASS_BYTES.map((bytes) =>
    createCells(CELLS_PER_PAGE_SHIFT, () => Buffer.allocUnsafeSlow(bytes << CELLS_PER_PAGE_SHIFT)),
  );
  /** Size class by length in bytes. */
  const classOf = Uint8Array.from({ length: MAX_ID_BYTES + 1 }, (_, bytes) =>
    CLASS_BYTES.findIndex((size) => size >= bytes),
  );
  const scratch = Buffer.allocUnsafeSlow(MAX_ID_BYTES);
  let writtenBytes = 0;
  let heldBytes = 0;

  function pageOf(cells: Cells<Buffer>, cell: number): Buffer {
    return cells.pages[cell >> CELLS_PER_PAGE_SHIFT]!;
  }

  function offsetOf(cell: number, sizeClass: number): number {
    return (cell & ((1 << CELLS_PER_PAGE_SHIFT) - 1)) * CLASS_BYTES[sizeClass]!;
  }

  function equalsBytes(cell: number, bytes: number, other: Uint8Array, at: number): boolean {
    const sizeClass = classOf[bytes]!;
    const page = pageOf(classes[sizeClass]!, cell);
    const offset = offsetOf(cell, sizeClass);
    for (let i = 0; i < bytes; i += 1) if (page[offset + i] !== other[at + i]) return false;
    return true;
  }

  return {
    writtenBytes: () => writtenBytes,
    heldBytes: () => heldBytes,
    cellBytes: (bytes) => CLASS_BYTES[classOf[bytes]!]!,
    write(id) {
      writtenBytes = scratch.write(id);
      const sizeClass = classOf[writtenBytes]!;
      const cells = classes[sizeClass]!;
      const cell = cells.take();
      heldBytes += CLASS_BYTES[sizeClass]!;
      scratch.copy(pageOf(cells, cell), offsetOf(cell, sizeClass), 0, writtenBytes);
      return cell;
    },
    read(cell, bytes) {
      const sizeClass = classOf[bytes]!;
      const offset = offsetOf(cell, sizeClass);
      return pageOf(classes[sizeClass]!, cell).toString('utf8', offset, offset + bytes);
    },
    equals(cell, bytes, id) {
      const sizeClass = classOf[bytes]!;
      const page = pageOf(classes[sizeClass]!, cell);
      const offset = offsetOf(cell, sizeClass);
      const { length } = id;
      if (length > bytes) return false;
      for (let i = 0; i < length; i += 1) {
        const code = charCodeAt(id, i);
        if (code > 127) return scratch.write(id) === bytes && equalsBytes(cell, bytes, scratch, 0);
        if (page[offset + i] !== code) return false;
      }
      return length === bytes;
    },
    equalsBytes,
    copy(cell, bytes, target, at) {
      const sizeClass = classOf[bytes]!;
      const page = pageOf(classes[sizeClass]!, cell);
      const offset = offsetOf(cell, sizeClass);
      // Most ids are short. `Buffer.copy` makes a view of the source, which takes longer than 20 bytes do.
      for (let i = 0; i < bytes; i += 1) target[at + i] = page[offset + i]!;
    },
    release(cell, bytes) {
      const sizeClass = classOf[bytes]!;
      heldBytes -= CLASS_BYTES[sizeClass]!;
      classes[sizeClass]!.release(cell);
    },
  };
}
