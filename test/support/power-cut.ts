import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A file system on a disk of its own, whose power can be cut. */
export interface Disk {
  readonly folder: string;
  /**
   * Cuts the power: what programs wrote and did not wait for is lost.
   * @returns the folder with what the disk has
   */
  cut(): string;
  remove(): void;
}

const BYTES = 32 * 2 ** 20;

/**
 * Mounts ext4 on a loop device. Its file is the disk: it has only what the file system has sent to the device, which
 * excludes dirty pages. A copy of it is the disk after a power cut.
 * @returns why there is none, if this machine does not allow it
 */
export function mountDisk(): Disk | string {
  const root = mkdtempSync(join(tmpdir(), 'tokenring-disk-'));
  const [image, before, after] = [join(root, 'disk'), join(root, 'before'), join(root, 'after')];
  writeFileSync(image, '');
  truncateSync(image, BYTES);
  for (const folder of [before, after]) mkdirSync(folder);
  const run = (program: string, ...args: string[]): boolean => spawnSync(program, args).status === 0;
  if (!run('mkfs.ext4', '-q', '-F', image) || !run('mount', '-o', 'loop', image, before)) {
    rmSync(root, { recursive: true });
    return 'mounting a loop device needs root, and mkfs.ext4';
  }
  return {
    folder: before,
    cut() {
      copyFileSync(image, `${image}-cut`);
      if (!run('mount', '-o', 'loop', `${image}-cut`, after)) throw new Error('the disk cannot be mounted again');
      return after;
    },
    remove() {
      for (const folder of [before, after]) run('umount', '-l', folder);
      rmSync(root, { recursive: true });
    },
  };
}
