import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import {
  Client,
  credentials,
  Metadata,
  type CallOptions,
  type ChannelCredentials,
  type ChannelOptions,
  type ServiceError,
} from '@grpc/grpc-js';
import { loadSync, type ServiceDefinition } from '@grpc/proto-loader';

const protocols = join(dirname(createRequire(import.meta.url).resolve('@grpc/grpc-js-xds/package.json')), 'deps');

/** The published protocol, as a package of Envoy's own API holds it. */
export const PUBLISHED = loadSync('envoy/service/ratelimit/v3/rls.proto', {
  keepCase: true,
  longs: Number,
  defaults: true,
  includeDirs: ['envoy-api', 'googleapis', 'protoc-gen-validate', 'xds'].map((name) => join(protocols, name)),
});
const { ShouldRateLimit } = PUBLISHED['envoy.service.ratelimit.v3.RateLimitService'] as ServiceDefinition;
export const { requestSerialize, responseDeserialize } = ShouldRateLimit!;

export interface DescriptorText {
  readonly entries?: readonly { readonly key?: string; readonly value?: string }[];
  readonly limit?: { readonly requests_per_unit: number; readonly unit: number | string };
}

export interface Asked {
  readonly domain?: string;
  readonly descriptors?: readonly DescriptorText[];
  readonly hits_addend?: number;
}

export interface Answered {
  readonly overall_code: number;
  readonly statuses: readonly {
    readonly code: number;
    readonly current_limit: { readonly requests_per_unit: number; readonly unit: number; readonly name: string } | null;
    readonly limit_remaining: number;
    readonly duration_until_reset: { readonly seconds: number; readonly nanos: number } | null;
  }[];
  readonly response_headers_to_add: readonly { readonly key: string; readonly value: string }[];
}

/** A descriptor of these entries, as `key=value`. */
export function descriptor(...pairs: string[]): DescriptorText {
  const entries = pairs.map((pair) => {
    const at = pair.indexOf('=');
    return { key: pair.slice(0, at), value: pair.slice(at + 1) };
  });
  return { entries };
}

export interface GrpcClient {
  limit(asked: Asked, metadata?: Record<string, string>, options?: CallOptions): Promise<Answered>;
  /** Sends these bytes as the message of any method. */
  raw(path: string, message: Buffer, metadata?: Record<string, string>): Promise<Buffer>;
  readonly client: Client;
  close(): void;
}

/**
 * A client of the official library for Node.js, with connections of its own. Errors have its codes.
 * @param target the port of a node here, or several addresses as gRPC names them
 */
export function grpcClient(
  target: number | string,
  secure: ChannelCredentials = credentials.createInsecure(),
  options: ChannelOptions = {},
): GrpcClient {
  const address = typeof target === 'number' ? `localhost:${target}` : target;
  const own = { 'grpc.enable_retries': 0, 'grpc.use_local_subchannel_pool': 1 };
  const client = new Client(address, secure, { ...own, ...options });
  const same = (bytes: Buffer): Buffer => bytes;

  function raw(path: string, message: Buffer, given = {}, options: CallOptions = {}): Promise<Buffer> {
    const metadata = new Metadata();
    for (const [key, value] of Object.entries<string>(given)) metadata.set(key, value);
    return new Promise((resolve, reject) => {
      client.makeUnaryRequest(path, same, same, message, metadata, options, (error: ServiceError | null, answer) =>
        error === null ? resolve(answer!) : reject(error),
      );
    });
  }

  return {
    client,
    raw,
    limit: async (asked, metadata, options) =>
      responseDeserialize(await raw(ShouldRateLimit!.path, requestSerialize(asked), metadata, options)) as Answered,
    close: () => client.close(),
  };
}

/** The code of a call that fails. */
export async function codeOf(call: Promise<unknown>): Promise<number> {
  const error = await call.then(
    () => undefined,
    (one: unknown) => one as ServiceError,
  );
  return error?.code ?? 0;
}
