import { charCodeAt } from '../lib/text.js';
import { Cells } from './cells.js';

/** Bytes of a cell, by size class. An id takes a cell of the smallest class that holds it. UUIDs have 36 bytes. */
const CLASS_BYTES = [8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 64, 96, 128, 192, 256];
const MAX_ID_BYTES = 256;
const CELLS_PER_PAGE_SHIFT = 10;

/** Ids of clients as UTF-8 bytes outside the heap. Its cell number and its length in bytes identify each id. */
export class ClientIds {
  private readonly classes = CLASS_BYTES.map(
    (bytes) => new Cells(CELLS_PER_PAGE_SHIFT, () => Buffer.allocUnsafeSlow(bytes << CELLS_PER_PAGE_SHIFT)),
  );
  /** Size class by length in bytes. */
  private readonly classOf = Uint8Array.from({ length: MAX_ID_BYTES + 1 }, (_, bytes) =>
    CLASS_BYTES.findIndex((size) => size >= bytes),
  );
  private readonly scratch = Buffer.allocUnsafeSlow(MAX_ID_BYTES);
  private lastBytes = 0;
  private allBytes = 0;

  /** Length in bytes of the id that was written last. */
  writtenBytes(): number {
    return this.lastBytes;
  }

  /** Bytes of the cells of all ids. */
  heldBytes(): number {
    return this.allBytes;
  }

  /** Bytes of the cell for an id of so many bytes. */
  cellBytes(bytes: number): number {
    return CLASS_BYTES[this.classOf[bytes]!]!;
  }

  /** Stores an id. @returns its cell */
  write(id: string): number {
    this.lastBytes = this.scratch.write(id);
    const sizeClass = this.classOf[this.lastBytes]!;
    const cells = this.classes[sizeClass]!;
    const cell = cells.take();
    this.allBytes += CLASS_BYTES[sizeClass]!;
    this.scratch.copy(this.pageOf(cells, cell), this.offsetOf(cell, sizeClass), 0, this.lastBytes);
    return cell;
  }

  /** @param bytes length of the id, 1 to 256 */
  read(cell: number, bytes: number): string {
    const sizeClass = this.classOf[bytes]!;
    const offset = this.offsetOf(cell, sizeClass);
    return this.pageOf(this.classes[sizeClass]!, cell).toString('utf8', offset, offset + bytes);
  }

  equals(cell: number, bytes: number, id: string): boolean {
    const sizeClass = this.classOf[bytes]!;
    const page = this.pageOf(this.classes[sizeClass]!, cell);
    const offset = this.offsetOf(cell, sizeClass);
    const { length } = id;
    if (length > bytes) return false;
    for (let i = 0; i < length; i += 1) {
      const code = charCodeAt(id, i);
      if (code > 127) return this.scratch.write(id) === bytes && this.equalsBytes(cell, bytes, this.scratch, 0);
      if (page[offset + i] !== code) return false;
    }
    return length === bytes;
  }

  equalsBytes(cell: number, bytes: number, other: Uint8Array, at: number): boolean {
    const sizeClass = this.classOf[bytes]!;
    const page = this.pageOf(this.classes[sizeClass]!, cell);
    const offset = this.offsetOf(cell, sizeClass);
    for (let i = 0; i < bytes; i += 1) if (page[offset + i] !== other[at + i]) return false;
    return true;
  }

  /** Copies an id into a buffer that has room for it. */
  copy(cell: number, bytes: number, target: Buffer, at: number): void {
    const sizeClass = this.classOf[bytes]!;
    const page = this.pageOf(this.classes[sizeClass]!, cell);
    const offset = this.offsetOf(cell, sizeClass);
    // Most ids are short. `Buffer.copy` makes a view of the source, which takes longer than 20 bytes do.
    for (let i = 0; i < bytes; i += 1) target[at + i] = page[offset + i]!;
  }

  release(cell: number, bytes: number): void {
    const sizeClass = this.classOf[bytes]!;
    this.allBytes -= CLASS_BYTES[sizeClass]!;
    this.classes[sizeClass]!.release(cell);
  }

  private pageOf(cells: Cells<Buffer>, cell: number): Buffer {
    return cells.pages[cell >> CELLS_PER_PAGE_SHIFT]!;
  }

  private offsetOf(cell: number, sizeClass: number): number {
    return (cell & ((1 << CELLS_PER_PAGE_SHIFT) - 1)) * CLASS_BYTES[sizeClass]!;
  }
}
