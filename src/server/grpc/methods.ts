import { readTraceContext } from '../../lib/trace-context.js';
import { TokenringError } from '../../lib/error.js';
import { PREFIX_BYTES, type Answer, type Method } from './call.js';
import { HEALTH_SERVICE, type Health } from './health-service.js';
import { readHealthCheckRequest, writeHealthCheckResponse } from './messages.js';
import { RATE_LIMIT_SERVICE, type RateLimitService } from './rate-limit-service.js';

export const SERVICES = [RATE_LIMIT_SERVICE, HEALTH_SERVICE];

/** The methods of the server, by path. Health checks need no token, as `/healthz` needs none. */
export function createMethods(rateLimit: RateLimitService, health: Health): ReadonlyMap<string, Method> {
  return new Map([
    [`/${RATE_LIMIT_SERVICE}/ShouldRateLimit`, rateLimitMethod(rateLimit)],
    [`/${HEALTH_SERVICE}/Check`, checkMethod(health)],
    [`/${HEALTH_SERVICE}/Watch`, watchMethod(health)],
  ]);
}

function rateLimitMethod(service: RateLimitService): Method {
  return {
    guarded: true,
    streams: false,
    answer(message, _to, { traceparent, tracestate }) {
      const trace =
        typeof traceparent === 'string'
          ? readTraceContext(traceparent, typeof tracestate === 'string' ? tracestate : undefined)
          : undefined;
      return service.shouldRateLimit(message, trace, PREFIX_BYTES);
    },
  };
}

function checkMethod(health: Health): Method {
  return {
    guarded: false,
    streams: false,
    answer(message) {
      const service = readHealthCheckRequest(message);
      const status = health.status(service);
      if (status === undefined) {
        throw new TokenringError('not_found', { field: 'service', expected: SERVICES.join(' or ') });
      }
      return healthAnswer(status);
    },
  };
}

function watchMethod(health: Health): Method {
  return {
    guarded: false,
    streams: true,
    answer(message, to) {
      const stop = health.watch(readHealthCheckRequest(message), {
        network: to.network(),
        tell: (status) => to.send(healthAnswer(status)),
        cut: to.fail,
      });
      to.onEnd(stop);
      return undefined;
    },
  };
}

function healthAnswer(status: number): Answer {
  return { framed: writeHealthCheckResponse(status, PREFIX_BYTES), source: undefined };
}
