type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Variables that Kubernetes sets in pods beside a Service named `tokenring`. It also sets `TOKENRING_PORT` to an
 * address.
 */
const LINK = /^TOKENRING_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$/;
const ADDRESS = /^tcp:\/\//;

/**
 * Removes the variables that Kubernetes sets for a Service named `tokenring`.
 * @returns the rest, and the names removed
 */
export function withoutServiceLinks(env: Environment): {
  readonly own: Environment;
  readonly links: readonly string[];
} {
  const links = Object.keys(env).filter(
    (name) => LINK.test(name) || (name === 'TOKENRING_PORT' && ADDRESS.test(env[name]!)),
  );
  return { own: Object.fromEntries(Object.entries(env).filter(([name]) => !links.includes(name))), links };
}
