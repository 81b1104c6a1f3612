import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { parse } from 'yaml';
import type { ApisixConfiguration, EnvoyConfiguration, TraefikConfiguration } from './stand-ins.js';

const fenced = (language: string, path: string): string => `\`\`\`${language}\n${readFileSync(path, 'utf8')}\`\`\`\n`;

/** The page, and the longer configurations to which it links. */
const text = [
  readFileSync('docs/gateways.md', 'utf8'),
  fenced('haproxy', 'config/gateways/haproxy.cfg'),
  fenced('yaml', 'config/gateways/kong.yaml'),
].join('\n');

/** The configurations of one language, in order, without their indentation. */
export function documented(language: string): string[] {
  const blocks = [...text.matchAll(new RegExp(`^( *)\`\`\`${language}\\n([\\s\\S]*?)^ *\`\`\`$`, 'gm'))];
  return blocks.map(([, indent, block]) => block!.replaceAll(new RegExp(`^${indent}`, 'gm'), ''));
}

/** Puts something else in a configuration, which must have been there. */
export function changed(configuration: string, ...changes: readonly (readonly [from: string, to: string])[]): string {
  return changes.reduce((all, [from, to]) => {
    expect(all, `the documented configuration has no ${from}`).to.include(from);
    return all.replaceAll(from, to);
  }, configuration);
}

const unquoted = (value: string): string => value.replace(/^'(.*)'$/, '$1');

/** What a block of YAML says at a key, as far as docs/gateways.md writes it: a value, the lines below it, or the items. */
function at(yaml: string, key: string): { value: string; lines: string[] } {
  const [, indent, value] = new RegExp(`^( *)(?:.*[{ ])?${key}: *(.*?)[,}]*$`, 'm').exec(yaml) ?? [];
  expect(indent, `the documented configuration has no ${key}`).to.be.a('string');
  const after = yaml
    .slice(yaml.search(new RegExp(`^.*${key}:`, 'm')))
    .split('\n')
    .slice(1);
  const end = after.findIndex((line) => !line.startsWith(`${indent!} `));
  return { value: unquoted(value!.replace(/ #.*$/, '')), lines: after.slice(0, end < 0 ? undefined : end) };
}

interface KongConfiguration {
  readonly services: readonly {
    readonly plugins: readonly { readonly name: string; readonly config: { readonly access: readonly string[] } }[];
  }[];
}

/** The documented Lua of Kong, by name of the plugin that runs it. */
export function documentedKong(): { readonly plugin: string; readonly lua: string } {
  const yaml = documented('yaml').find((one) => one.includes('pre-function'))!;
  const { name, config } = (parse(yaml) as KongConfiguration).services[0]!.plugins[0]!;
  return { plugin: name, lua: config.access[0]! };
}

interface ApisixRoutes {
  readonly routes: readonly { readonly plugins: { readonly 'forward-auth': ApisixConfiguration } }[];
}

/** The documented `forward-auth` of APISIX. */
export function documentedApisix(): ApisixConfiguration {
  const yaml = documented('yaml').find((one) => one.includes('forward-auth:'))!;
  return (parse(yaml) as ApisixRoutes).routes[0]!.plugins['forward-auth'];
}

/** The documented `headers` and `forwardAuth` of Traefik. */
export function documentedTraefik(): Pick<TraefikConfiguration, 'customRequestHeaders' | 'authRequestHeaders'> & {
  path: string;
} {
  const [yaml] = documented('yaml') as [string];
  const pairs = at(yaml, 'customRequestHeaders').lines.map((line) => /^ *([\w-]+): ('.*?'|\S*)/.exec(line)!);
  return {
    customRequestHeaders: pairs.map(([, name, value]) => [name!, unquoted(value!)] as const),
    authRequestHeaders: at(yaml, 'authRequestHeaders').lines.map((line) => line.replace(/^ *- /, '')),
    path: new URL(at(yaml, 'address').value).pathname,
  };
}

/** The documented `ext_authz` of Envoy. */
export function documentedEnvoy(): Omit<EnvoyConfiguration, 'port'> {
  const [, yaml] = documented('yaml') as [string, string];
  const added = at(yaml, 'headers_to_add').lines.map((line) => /\{ key: ([\w-]+), value: (.*) \}/.exec(line)!);
  expect(yaml).to.include('status_on_error: { code: ServiceUnavailable }');
  return {
    pathPrefix: at(yaml, 'path_prefix').value,
    headersToAdd: added.map(([, name, value]) => [name!, unquoted(value!)] as const),
    statusOnError: 503,
    clientHeadersOnSuccess: /patterns: \[\{ prefix: (\w+) \}\]/.exec(yaml)![1]!,
  };
}
