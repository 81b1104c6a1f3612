/** Fetches one address of a node. */
type Get = (path: string) => Promise<{ readonly status: number; readonly body: string }>;

const PAGES = ['/dashboard', '/docs', '/openapi.json'];
/** Addresses that a page loads, or a script of the project imports, relative to it. */
const LOADED = /\b(?:src|href)="([\w./-]+)"|\b(?:from|import)\s*['"](\.[\w./-]+)['"]/g;

/** Fetches all pages of a node and what they load. @returns each address with the status of its answer */
export async function fetchPages(get: Get): Promise<ReadonlyMap<string, number>> {
  const fetched = new Map<string, number>();
  const waiting = [...PAGES];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (fetched.has(path)) continue;
    const { status, body } = await get(path);
    fetched.set(path, status);
    // The bundles of others hold texts that look like addresses.
    if (/\.json$|swagger-ui|uplot/.test(path)) continue;
    for (const [, link, module] of body.matchAll(LOADED))
      waiting.push(new URL((link ?? module)!, `http://node${path}`).pathname);
  }
  return fetched;
}
