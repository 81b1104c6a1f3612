// The entry of each framework exports these too.
export type { Decision } from '../../limits/decide/decision.js';
export type { Limiter } from '../../limits/request/limiter.js';
export type { AllowRequest, Duration, LimitRequest } from '../../limits/request/request.js';
export type { HeaderStyle } from '../middleware/limit-headers.js';
export { addressKey } from '../middleware/address-key.js';
