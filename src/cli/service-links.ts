type Environment = Readonly<Record<string, string | undefined>>;

/** What Kubernetes puts into the pods beside a Service named `tokenring`, besides its address in `TOKENRING_PORT`. */
const LINK = /^TOKENRING_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$/;
const ADDRESS = /^tcp:\/\//;

/** The environment without what Kubernetes says of a Service named `tokenring`, and the names of that. */
export function withoutServiceLinks(env: Environment): {
  readonly own: Environment;
  readonly links: readonly string[];
} {
  const links = Object.keys(env).filter(
    (name) => LINK.test(name) || (name === 'TOKENRING_PORT' && ADDRESS.test(env[name]!)),
  );
  return { own: Object.fromEntries(Object.entries(env).filter(([name]) => !links.includes(name))), links };
}
