import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freshDist } from './dist.js';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '../..');
const FOLDERS = { tokenring: ROOT, '@tokenring/client': join(ROOT, 'packages/client') } as const;
/** Codes of npm where the registry cannot be reached. */
const OFFLINE = /\b(?:ENOTCACHED|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|E5\d\d)\b/;

export interface Installed {
  readonly folder: string;
  remove(): void;
}

/** A file that `npm pack` would put into a package. */
interface PackedFile {
  readonly path: string;
  readonly size: number;
}

interface Packed {
  readonly filename: string;
  /** Bytes of the archive. */
  readonly size: number;
  /** Bytes of the files. */
  readonly unpackedSize: number;
  readonly files: readonly PackedFile[];
}

/** What was packed, and where: one archive of each package is enough for all tests of a process. */
const archives = new Map<string, Promise<Packed & { readonly path: string }>>();
const PACKED_TO = join(tmpdir(), `packed-${process.pid}`);
process.on('exit', () => rmSync(PACKED_TO, { recursive: true, force: true }));

export function pack(name: keyof typeof FOLDERS): Promise<Packed & { readonly path: string }> {
  const packing = archives.get(name) ?? packNow(name);
  archives.set(name, packing);
  return packing;
}

async function packNow(name: keyof typeof FOLDERS): Promise<Packed & { readonly path: string }> {
  freshDist();
  mkdirSync(PACKED_TO, { recursive: true });
  const args = ['pack', '--json', '--ignore-scripts', `--pack-destination=${PACKED_TO}`];
  const { stdout } = await run('npm', args, { cwd: FOLDERS[name] });
  const [packed] = JSON.parse(stdout) as [Packed];
  return { ...packed, path: join(PACKED_TO, packed.filename) };
}

/**
 * Installs one of our packages, as it would be published, and others by name into an empty folder.
 * @returns why it cannot be, where the registry cannot be reached
 */
export async function install(name: keyof typeof FOLDERS, ...others: string[]): Promise<Installed | { why: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'installed-'));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  const { path } = await pack(name);
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
  const why = await add(folder, path, ...others);
  if (why === undefined) return { folder, remove };
  remove();
  return { why };
}

/** Installs packages into a folder. @returns why it cannot, where the registry cannot be reached */
export function add(folder: string, ...packages: string[]): Promise<string | undefined> {
  return npm(folder, ['install', '--ignore-scripts', ...packages]);
}

/** Runs npm in a folder. @returns why it cannot, where the registry cannot be reached */
export async function npm(folder: string, args: readonly string[], env = process.env): Promise<string | undefined> {
  const quiet = ['--no-audit', '--no-fund', '--prefer-offline', '--fetch-retries=0'];
  try {
    await run('npm', [...args, ...quiet], { cwd: folder, env });
    return undefined;
  } catch (error) {
    const { stderr } = error as { stderr?: string };
    const code = OFFLINE.exec(stderr ?? '')?.[0];
    if (code === undefined) throw error;
    return `npm cannot reach its registry (${code})`;
  }
}
