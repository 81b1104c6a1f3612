// The entry of each framework exports these too.
export type { Decision } from '../../core/decide/decision.js';
export type { Limiter } from '../../core/request/limiter.js';
export type { AllowRequest, Duration, LimitRequest } from '../../core/request/request.js';
export type { HeaderStyle } from '../middleware/limit-headers.js';
export { addressKey } from '../middleware/address-key.js';
